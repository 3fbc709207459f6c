package process

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// yieldSelf does nothing: here priorities belong to processes.
func yieldSelf() {}

// lowest is the highest niceness there is.
const lowest = 19

// makeYield makes a child as nice as can be.
func makeYield(pid int) { _ = unix.Setpriority(unix.PRIO_PROCESS, pid, lowest) }
