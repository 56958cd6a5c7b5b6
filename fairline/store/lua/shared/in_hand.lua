-- Whether the caller still rebuilds this sale, on the Redis where it began (D2). Holds it for longer if so.
local function in_hand(meta, recovery, owner, hold_ms)
  if not fenced(meta) or redis.call('GET', recovery) ~= owner .. ' ' .. instance() then return false end
  redis.call('PEXPIRE', recovery, hold_ms)
  return true
end
