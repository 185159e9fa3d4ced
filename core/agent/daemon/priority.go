package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// The I/O priority that goes with --nice: best effort, the lowest of its
// levels. Idle would never get its share beside a busy database.
const (
	ioLowest   = 2<<ioClass | 7
	ioClass    = 13 // the bits below are the level
	ioprioWho  = 1  // IOPRIO_WHO_PROCESS
	thisThread = 0
)

// startNice starts cmd at a nice value, with the lowest I/O priority, unless
// nice is 0 or it has less already. Priorities belong to threads and are
// inherited from the one that starts another: a process that is started so has
// no thread, and starts none, with another one.
func startNice(cmd *exec.Cmd, nice int) error {
	if nice == 0 {
		return cmd.Start()
	}
	runtime.LockOSThread() // for good: this thread stays slow
	if now, err := niceNow(); err != nil {
		return err
	} else if now < nice {
		if err := unix.Setpriority(unix.PRIO_PROCESS, thisThread, nice); err != nil {
			return fmt.Errorf("lower the CPU priority: %w", err)
		}
	}
	now, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, ioprioWho, thisThread, 0)
	if errno == 0 && now < ioLowest { // none, or a better one
		_, _, errno = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWho, thisThread, ioLowest)
	}
	if errno != 0 && errno != unix.ENOSYS {
		return fmt.Errorf("lower the I/O priority: %w", errno)
	}
	return cmd.Start()
}

// niceNow is this thread's nice value.
func niceNow() (int, error) {
	prio, err := unix.Getpriority(unix.PRIO_PROCESS, thisThread)
	if err != nil {
		return 0, fmt.Errorf("ask for the CPU priority: %w", err)
	}
	return 20 - prio, nil // the kernel's own form, which is never negative
}

// niceSession makes the nice value count against other sessions too. Where
// the kernel groups processes by session, a value compares only within one,
// and the agent is alone in its own.
func niceSession(nice int) error {
	if nice == 0 {
		return nil
	}
	err := os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(nice)), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // this kernel groups nothing
	}
	return err
}
