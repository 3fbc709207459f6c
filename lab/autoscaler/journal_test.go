package autoscaler

import "testing"

func TestJournal(t *testing.T) {
	j := newJournal[int]()
	_, next, more := j.After(0)
	for i := range journalLength + 1 {
		j.Add(i)
	}
	<-more
	kept, after, _ := j.After(next)
	if want := journalLength - journalLength/8 + 1; len(kept) != want || kept[len(kept)-1] != journalLength || after != journalLength+1 {
		t.Errorf("%d kept, want %d; next is %d", len(kept), want, after)
	}
	if rest, _, _ := j.After(after + 10); len(rest) != 0 {
		t.Errorf("%d entries after the last", len(rest))
	}
	if last, _, _ := j.After(after - 1); len(last) != 1 || last[0] != journalLength {
		t.Errorf("the last entry is %v", last)
	}
}
