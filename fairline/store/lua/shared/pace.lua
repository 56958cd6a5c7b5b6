-- P1: a bucket of depth b, filled at (R - b) / W, lets at most R = W * rate go in any window of W.
-- P2: a clock that steps back earns nothing and stalls nothing.
local function window_of(rate)
  return rate and math.max(10, 10 / rate) or 10 -- seconds
end

local function fill(rate, tokens, last_us, now_us)
  local window = window_of(rate)
  local depth = math.max(1, rate * 0.1) -- what 100 ms of the rate give
  local elapsed = math.max(0, now_us - last_us) / 1000000
  return math.min(depth, tokens + elapsed * (window * rate - depth) / window)
end

local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
