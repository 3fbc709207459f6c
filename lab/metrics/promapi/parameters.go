package promapi

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
)

// The ends of time, as Prometheus and its client write them.
var (
	minTime = time.Unix(math.MinInt64/1000+62135596801, 0).UTC()
	maxTime = time.Unix(math.MaxInt64/1000-62135596801, 999999999).UTC()
)

// timeParameter reads a time: Unix seconds or RFC 3339.
func timeParameter(r *http.Request, name string, otherwise time.Time) (time.Time, error) {
	text := r.FormValue(name)
	if text == "" {
		return otherwise, nil
	}
	if unix, err := strconv.ParseFloat(text, 64); err == nil {
		whole, part := math.Modf(unix)
		// To the millisecond, which is what samples have.
		return time.Unix(int64(whole), int64(math.Round(part*1000))*int64(time.Millisecond)).UTC(), nil
	}
	switch text {
	case minTime.Format(time.RFC3339Nano): // a year of more digits than time.Parse reads
		return minTime, nil
	case maxTime.Format(time.RFC3339Nano):
		return maxTime, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", text)
	}
	return t, nil
}

// period reads the parameters start and end.
func period(r *http.Request, start, end time.Time) (from, to time.Time, bad *answer) {
	from, err := timeParameter(r, "start", start)
	if err != nil {
		a := badParameter("start", err)
		return from, to, &a
	}
	to, err = timeParameter(r, "end", end)
	if err != nil {
		a := badParameter("end", err)
		return from, to, &a
	}
	if to.Before(from) {
		a := badParameter("end", errors.New("end timestamp must not be before start time"))
		return from, to, &a
	}
	return from, to, nil
}

// duration reads seconds or a Prometheus duration.
func duration(text string) (time.Duration, error) {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		d := seconds * float64(time.Second)
		if math.IsNaN(d) || d > math.MaxInt64 || d < math.MinInt64 {
			return 0, fmt.Errorf("cannot parse %q to a valid duration. It overflows int64", text)
		}
		return time.Duration(d), nil
	}
	if d, err := model.ParseDuration(text); err == nil {
		return time.Duration(d), nil
	}
	return 0, fmt.Errorf("cannot parse %q to a valid duration", text)
}

// limitParameter reads the most results that are wanted; 0 stands for all.
func limitParameter(r *http.Request) (int, error) {
	text := r.FormValue("limit")
	if text == "" {
		return 0, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil {
		return 0, err
	}
	if limit < 0 {
		return 0, errors.New("limit must be non-negative")
	}
	return limit, nil
}

// errTruncated is the warning on results cut to a limit.
var errTruncated = errors.New("results truncated due to limit")
