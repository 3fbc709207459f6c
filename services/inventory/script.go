package main

// reapBatch bounds the holds that one script gives back, so that no call waits longer than about a millisecond for
// others' leavings. Calls beyond that find the rest gone a call later.
const reapBatch = 100

// keepFinished is how long the record of a released or expired hold stays, in milliseconds: a day. It answers a Hold or
// Confirm that arrives late, and no call is a day late; a saga that is picked up later than that gets HOLD_UNKNOWN from
// Confirm. Records of sold seats stay for good, the audit counts them.
const keepFinished = 24 * 60 * 60 * 1000

// Every script begins with reaping: seats of overdue holds come free with the next call of whatever kind, whether or not a
// background process lives. Time is Redis' own, so replicas with clocks that differ agree on what is overdue.
//
// KEYS are the show's taken bitmap, its expiring set and, but for the scripts about the show as a whole, one hold.
// ARGV[1] is what the keys of the show's holds begin with, ARGV[2] reapBatch, ARGV[3] keepFinished.
//
// A reply is {outcome, how many holds were reaped, ...}. Only Redis 7 and later lets a script read the time and then
// write without asking for it.
const prelude = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function int(n) return string.format('%d', n) end

-- finish gives the seats of a hold back and leaves its record for a while.
local function finish(key, state)
	for seat in string.gmatch(redis.call('HGET', key, 'seats'), '%d+') do redis.call('SETBIT', KEYS[1], seat, 0) end
	redis.call('HSET', key, 'state', state)
	redis.call('PEXPIRE', key, ARGV[3])
end

local overdue = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', int(now), 'LIMIT', 0, ARGV[2])
for _, id in ipairs(overdue) do
	local key = ARGV[1] .. id
	redis.call('ZREM', KEYS[2], id)
	if redis.call('HGET', key, 'state') == 'held' then finish(key, 'expired') end
end
local reaped = int(#overdue)
`

const reapScript = prelude + `return {'done', reaped}`

const takenScript = prelude + `return {'done', reaped, redis.call('GET', KEYS[1]) or ''}`

// holdScript: ARGV hold id, seats, time to live ms, amount. Outcomes: held (expiry, amount), taken (seats), reused, expired,
// released.
const holdScript = prelude + `
local id, seats, ttl, amount = ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]
local was = redis.call('HMGET', KEYS[3], 'state', 'seats', 'expires_ms', 'amount_cents')
if was[1] then
	if was[2] and was[2] ~= seats then return {'reused', reaped} end
	if was[1] == 'held' and tonumber(was[3]) <= now then return {'expired', reaped} end -- the reaper has not come to it
	if was[1] == 'held' or was[1] == 'confirmed' then return {'held', reaped, was[3], was[4]} end
	return {was[1], reaped}
end
local taken = {}
for seat in string.gmatch(seats, '%d+') do
	if redis.call('GETBIT', KEYS[1], seat) == 1 then taken[#taken + 1] = seat end
end
if #taken > 0 then return {'taken', reaped, table.concat(taken, ',')} end
for seat in string.gmatch(seats, '%d+') do redis.call('SETBIT', KEYS[1], seat, 1) end
local expires = int(now + ttl)
redis.call('HSET', KEYS[3], 'state', 'held', 'seats', seats, 'expires_ms', expires, 'amount_cents', amount)
redis.call('ZADD', KEYS[2], expires, id)
return {'held', reaped, expires, amount}
`

// confirmScript: ARGV hold id. Outcomes: confirmed, unknown, expired, released.
const confirmScript = prelude + `
local was = redis.call('HMGET', KEYS[3], 'state', 'expires_ms')
if not was[1] then return {'unknown', reaped} end
if was[1] ~= 'held' then return {was[1], reaped} end
redis.call('ZREM', KEYS[2], ARGV[4])
if tonumber(was[2]) <= now then
	finish(KEYS[3], 'expired')
	return {'expired', reaped}
end
redis.call('HSET', KEYS[3], 'state', 'confirmed')
return {'confirmed', reaped}
`

// releaseScript: ARGV hold id. Outcomes: freed, nothing. A hold that was never made leaves a record, without seats, that
// stops it from being made later.
const releaseScript = prelude + `
local state = redis.call('HGET', KEYS[3], 'state')
if not state then
	redis.call('HSET', KEYS[3], 'state', 'released')
	redis.call('PEXPIRE', KEYS[3], ARGV[3])
	return {'nothing', reaped}
end
if state ~= 'held' and state ~= 'confirmed' then return {'nothing', reaped} end
redis.call('ZREM', KEYS[2], ARGV[4])
finish(KEYS[3], 'released')
return {'freed', reaped}
`
