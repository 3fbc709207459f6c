package capacity

import "time"

// Wait is how long a request would wait for a slot that arrived at arrival and came next. A station that burns does not
// know when its slots become free: there it is how long those who wait now will take at the mean service time.
func (s *Station) Wait(arrival time.Time) time.Duration {
	if s.config.ServiceTime == 0 {
		return 0
	}
	if s.burners != nil {
		return time.Duration(s.burners.queued.Load()) * s.ServiceTime() / time.Duration(s.config.Slots)
	}
	return s.Plan(arrival).Start.Sub(arrival)
}
