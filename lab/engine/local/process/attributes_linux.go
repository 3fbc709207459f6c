package process

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// beNice makes the calling thread nicer, and with it every process that it makes
// from then on: on Linux niceness belongs to threads, and a child takes its
// maker's. More niceness needs no permission.
func beNice(niceness int) { _ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), niceness) }

// makeNice does nothing: a child is as nice as its maker from the start.
func makeNice(int, int) {}
