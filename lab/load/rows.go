package load

import "strconv"

// Rows are the seconds as a table with a heading, for CSV.
func (r *Record) Rows() [][]string {
	rows := [][]string{{"second", "offered", "good", "late", "refused", "shed", "errors", "p50_ms", "p99_ms", "p999_ms", "max_ms", "lag_p99_ms"}}
	for _, k := range kindNames {
		rows[0] = append(rows[0], k+"_offered", k+"_good")
	}
	for _, p := range priorityNames {
		rows[0] = append(rows[0], p+"_offered", p+"_good")
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	ms := func(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) }
	for _, s := range r.Seconds {
		row := []string{
			strconv.Itoa(s.Second), number(s.Offered), number(s.Good), number(s.Late), number(s.Refused), number(s.Shed), number(s.Failed()),
			ms(s.Latency.P50), ms(s.Latency.P99), ms(s.Latency.P999), ms(s.Latency.Max), ms(s.Lag.P99),
		}
		for _, k := range kindNames {
			row = append(row, number(s.ByJourney[k].Offered), number(s.ByJourney[k].Good))
		}
		for _, p := range priorityNames {
			row = append(row, number(s.ByPriority[p].Offered), number(s.ByPriority[p].Good))
		}
		rows = append(rows, row)
	}
	return rows
}
