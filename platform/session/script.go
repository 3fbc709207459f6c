package session

// The scripts share one vocabulary. A session is a hash {person, ends_ms} at its own key; the key's expiry in Redis is
// the earlier of idle and absolute expiry. The set of a person's sessions is scored by that same expiry, so that members
// whose session is gone can be told and are dropped whenever the set is written.
//
// Time is Redis' own: replicas with clocks that differ agree on when a session ends.
//
// A script finds the person's set by what it read from the session, so sessions need one Redis or a primary with
// replicas, not Redis Cluster. Redis must be 7 or later.
const vocabulary = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function int(n) return string.format('%d', n) end

local function personKey(person) return 'session:person:' .. person end

-- drop ends the session at key and tells whether there was one.
local function drop(key)
	local person = redis.call('HGET', key, 'person')
	if not person then return 0 end
	redis.call('DEL', key)
	redis.call('ZREM', personKey(person), key)
	return 1
end

-- renew puts the idle expiry off, as far as the absolute one.
local function renew(key, person, ends, idle)
	local expires = math.min(now + idle, ends)
	redis.call('PEXPIREAT', key, int(expires))
	redis.call('ZADD', personKey(person), int(expires), key)
end

-- create makes a session and keeps the person's set tidy and bounded.
local function create(key, person, ends, idle, most)
	redis.call('HSET', key, 'person', person, 'ends_ms', int(ends))
	renew(key, person, ends, idle)
	local set = personKey(person)
	redis.call('ZREMRANGEBYSCORE', set, '-inf', int(now))
	local over = redis.call('ZCARD', set) - most
	if over > 0 then
		for _, oldest in ipairs(redis.call('ZRANGE', set, 0, int(over - 1))) do drop(oldest) end
	end
	if redis.call('PEXPIRETIME', set) < ends then redis.call('PEXPIREAT', set, int(ends)) end
end
`

// signInScript: KEYS new session, previous session or the empty string; ARGV person, idle ms, absolute ms, most sessions of a person.
const signInScript = vocabulary + `
if KEYS[2] ~= '' then drop(KEYS[2]) end
local ends = now + ARGV[3]
create(KEYS[1], ARGV[1], ends, ARGV[2], ARGV[4])
return {int(ends)}
`

// touchScript: KEYS session; ARGV idle ms. Empty when there is no such session.
const touchScript = vocabulary + `
local s = redis.call('HMGET', KEYS[1], 'person', 'ends_ms')
if not s[1] then return {} end
renew(KEYS[1], s[1], tonumber(s[2]), ARGV[1])
return {s[1], s[2]}
`

// refreshScript: KEYS old session, new session; ARGV idle ms, most sessions of a person.
const refreshScript = vocabulary + `
local s = redis.call('HMGET', KEYS[1], 'person', 'ends_ms')
if not s[1] then return {} end
drop(KEYS[1])
create(KEYS[2], s[1], tonumber(s[2]), ARGV[1], ARGV[2])
return {s[1], s[2]}
`

// revokeScript: KEYS session. Gives how many were ended.
const revokeScript = vocabulary + `return {int(drop(KEYS[1]))}`

// revokeAllScript: KEYS the person's set. Gives how many were ended.
const revokeAllScript = vocabulary + `
local ended = 0
for _, key in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do ended = ended + redis.call('DEL', key) end
redis.call('DEL', KEYS[1])
return {int(ended)}
`
