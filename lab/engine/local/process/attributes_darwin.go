package process

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// beNice does nothing: here niceness belongs to processes.
func beNice(int) {}

// makeNice makes a child nicer.
func makeNice(pid, niceness int) { _ = unix.Setpriority(unix.PRIO_PROCESS, pid, niceness) }
