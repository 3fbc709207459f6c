package ratelimit

import (
	"time"

	"github.com/redis/go-redis/v9"
)

// tick is the unit of time in the script. Redis counts in doubles: with ticks of 100 ns since epoch all sums are exact
// until 2054. Its own clock has microseconds.
const tick = 100 * time.Nanosecond

// source is (gcra.Limit).Admit for several limits at once, all or none.
//
// KEYS[i] holds limit i's theoretical arrival time in ticks since 2026, and is gone when that says nothing more. ARGV
// holds for each limit, in ticks: interval, tolerance, how much of it to leave to others. The answer is {0, 0} for a call
// that is let in, else how many ticks it has to wait and for which limit.
const source = `
local t = redis.call('TIME')
local now = (t[1] - 1767225600) * 10000000 + t[2] * 10
local disorder = 10000000

local wait, by = 0, 0
local paid, mended = redis.call('MGET', unpack(KEYS)), {}
for i in ipairs(KEYS) do
	local interval, tolerance, leave = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
	paid[i] = math.max(tonumber(paid[i] or now), now)
	local most = now + tolerance + interval
	if paid[i] > most + disorder then
		paid[i] = most
		mended[i] = true
	end
	local w = paid[i] - now - math.max(tolerance - leave, 0)
	if w > wait then
		wait, by = w, i
	end
end

for i, key in ipairs(KEYS) do
	local owed = paid[i]
	if wait == 0 then
		owed = owed + ARGV[3 * i - 2]
	end
	if wait == 0 or mended[i] then
		redis.call('SET', key, string.format('%d', owed), 'PX', string.format('%d', math.ceil((owed - now) / 10000)))
	end
end
return {wait, by}
`

var script = redis.NewScript(source)

// ticks is d in ticks, rounded up, so that a limit is never wider in Redis than it is here.
func ticks(d time.Duration) int64 { return int64((max(d, 0) + tick - 1) / tick) }
