package process

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// identify tells when a live process started, in a unit of the system's own, and
// which program it runs. Process ids are used again; together the three name one
// process. A zombie counts as gone.
func identify(pid int) (start, exe string, err error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return "", "", err
	}
	const zombie = 5 // SZOMB of sys/proc.h
	if info.Proc.P_stat == zombie {
		return "", "", os.ErrProcessDone
	}
	started := info.Proc.P_starttime
	return fmt.Sprintf("%d.%06d", started.Sec, started.Usec), unix.ByteSliceToString(info.Proc.P_comm[:]), nil
}
