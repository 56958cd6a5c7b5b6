-- Those who are not there stand in line again, the last first, so that they are told the end like everybody.
local function unpark(line, parked, most)
  local back = most > 0 and redis.call('ZPOPMAX', parked, most) or {}
  for at = 1, #back, 2 do redis.call('ZADD', line, back[at + 1], back[at]) end
end
