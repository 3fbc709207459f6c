package process

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// identify tells when a live process started, in a unit of the system's own, and
// which program it runs. Process ids are used again; together the three name one
// process. A zombie counts as gone.
func identify(pid int) (start, exe string, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", "", err
	}
	// The command, in parentheses, may hold anything: fields count from behind it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return "", "", os.ErrProcessDone
	}
	exe, err = os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return "", "", err
	}
	// The program may have been built anew since.
	return fields[19], strings.TrimSuffix(exe, " (deleted)"), nil
}
