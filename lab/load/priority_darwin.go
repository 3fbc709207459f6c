package load

import "golang.org/x/sys/unix"

// eager is the niceness of a generator that may choose.
const eager = -10

// goFirst has the system prefer this process, where the user may ask for that: an
// arrival must not wait for what it measures.
func goFirst() { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, eager) } // refused to most users
