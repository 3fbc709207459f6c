package report

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var (
	update = flag.Bool("update", false, "write the golden files anew")
	pages  = flag.String("pages", "", "write a report of made-up data into this directory, to be looked at")
)

func TestPagesToLookAt(t *testing.T) {
	if *pages == "" {
		return
	}
	good := sampleResult(900, 10, 5)
	bad := sampleResult(900, 10, 1)
	bad.Valid, bad.Invalid = false, []string{"the host was busy: 97 % of its CPU on average, more than 90 %",
		"the generator was late: the 99th percentile of its lag is 14.2 ms, more than 5 ms"}
	for name, r := range map[string]*Result{"good": good, "bad": bad} {
		if err := Write(filepath.Join(*pages, name), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := Catalogue(*pages); err != nil {
		t.Fatal(err)
	}
	c, err := Compare(filepath.Join(*pages, "good"), filepath.Join(*pages, "bad"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := c.Page()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*pages, "compare.html"), page, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.Print(t.Output()); err != nil {
		t.Fatal(err)
	}
}
