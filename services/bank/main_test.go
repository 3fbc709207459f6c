package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also is the bank itself: TestKill starts this binary again with
// childVariable set and kills it.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}
