package e2e

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// badDisk is a block device that stores another byte than was written, or cannot
// be read, where it is told so: what disks, cables and controllers do at times,
// beneath every cache. It is a loop device over a file of FUSE, which a process of its own
// serves; whatever happens to that process, nothing of it stays on the machine.
type badDisk struct {
	t      testing.TB
	device string // /dev/loopN, of the machine and of every host of a lab
	in     io.Writer
	out    *bufio.Reader
}

// badDiskEnv marks a process that was started to serve a bad disk.
const badDiskEnv = "TRANSFERPY_E2E_BAD_DISK"

// newBadDisk makes a disk of so many bytes with an empty ext4 on it. It is
// sound at first. Where the machine has no FUSE or no loop devices the test is
// skipped, or fails where LAB_REQUIRED=1.
func newBadDisk(t testing.TB, size int64) *badDisk {
	t.Helper()
	if err := badDiskPossible(); err != nil && os.Getenv("LAB_REQUIRED") == "1" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-b", "4096", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), badDiskEnv+"="+image)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // its end is the process's end
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		stop := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer stop.Stop()
		cmd.Wait()
	})
	d := &badDisk{t: t, in: in, out: bufio.NewReader(out)}
	d.device = d.answer()
	return d
}

func badDiskPossible() error {
	for _, device := range []string{"/dev/fuse", "/dev/loop-control"} {
		f, err := os.OpenFile(device, os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("a disk that forges bytes needs FUSE and loop devices: %w", err)
		}
		f.Close()
	}
	_, err := exec.LookPath("mkfs.ext4")
	return err
}

func (d *badDisk) answer() string {
	d.t.Helper()
	line, err := d.out.ReadString('\n')
	if err != nil {
		d.t.Fatalf("the bad disk has ended: %v", err)
	}
	return strings.TrimSuffix(line, "\n")
}

// forge makes the disk alter the byte behind mark in the next times blocks that
// are written with it, and tells how often it has done that since it was told
// last. The mark must begin a block.
func (d *badDisk) forge(mark []byte, times int) (done int) {
	d.t.Helper()
	if _, err := fmt.Fprintf(d.in, "%x %d\n", mark, times); err != nil {
		d.t.Fatal(err)
	}
	done, err := strconv.Atoi(d.answer())
	if err != nil {
		d.t.Fatal(err)
	}
	return done
}

// fail makes blocks that hold mark unreadable from now on, and tells how often
// such a one was asked for since it was told anything last.
func (d *badDisk) fail(mark []byte) (failed int) { return d.forge(mark, failing) }

// failing stands for the number of blocks to forge where reads are to fail.
const failing = -1

// pace makes the disk take so many bytes a second from now on, reads and writes
// together; 0: any. What is in the host's page cache it has not taken yet.
func (d *badDisk) pace(bytes int) {
	d.t.Helper()
	if _, err := fmt.Fprintf(d.in, "%s %d\n", paceOrder, bytes); err != nil {
		d.t.Fatal(err)
	}
	d.answer()
}

// paceOrder is what an order begins with that sets the pace, in place of a mark.
const paceOrder = "pace"

// forged is how often it has altered a byte; it is sound from now on.
func (d *badDisk) forged() int { return d.forge([]byte("nothing"), 0) }

// badDiskMain turns a process that was started as a bad disk into one; it then
// does not return.
func badDiskMain() {
	image := os.Getenv(badDiskEnv)
	if image == "" {
		return
	}
	if err := serveBadDisk(image, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bad disk:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// forger is the memory of a bad disk.
type forger struct {
	mu     sync.Mutex
	image  []byte
	mark   []byte
	left   int // blocks that are still to be altered; failing: reads fail
	forged int // or failed

	rate atomic.Int64 // bytes a second; 0: any
	busy time.Time    // up to when it works on what it has been given; of who serves
}

// work takes as long as a disk of that rate needs for n bytes.
func (f *forger) work(n int) {
	rate := f.rate.Load()
	if now := time.Now(); rate == 0 || f.busy.Before(now) {
		f.busy = now
	}
	if rate > 0 {
		f.busy = f.busy.Add(time.Duration(n) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(f.busy)) // the slowness itself
	}
}

func (f *forger) read(b []byte, at int64) error {
	f.work(len(b))
	f.mu.Lock()
	defer f.mu.Unlock()
	copy(b, f.image[at:])
	if f.left == failing && bytes.Contains(b, f.mark) {
		f.forged++
		return errors.New("this block cannot be read")
	}
	return nil
}

func (f *forger) write(b []byte, at int64) {
	f.work(len(b))
	f.mu.Lock()
	defer f.mu.Unlock()
	copy(f.image[at:], b)
	if f.left <= 0 {
		return
	}
	if i := bytes.Index(b, f.mark); i >= 0 && i+len(f.mark) < len(b) {
		f.image[at+int64(i+len(f.mark))] ^= 1
		f.left--
		f.forged++
	}
}

func (f *forger) tell(mark []byte, times int) (done int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	done, f.mark, f.left, f.forged = f.forged, mark, times, 0
	return done
}

// serveBadDisk is the disk's whole life, in a mount namespace of its own: it
// tells the device's name and then takes its orders, until there are no more.
func serveBadDisk(image string, in io.Reader, out io.Writer) error {
	content, err := os.ReadFile(image)
	if err != nil {
		return err
	}
	disk := &forger{image: content}
	file, err := mountFuse(image, fuseFile{size: int64(len(content)), read: disk.read, write: disk.write})
	if err != nil {
		return err
	}
	serving := make(chan error, 1)
	go func() { serving <- file.serve() }()
	device, err := attachLoop(image)
	if err != nil {
		return err
	}
	defer device.Close()
	fmt.Fprintln(out, device.Name())
	for orders := bufio.NewScanner(in); orders.Scan(); {
		text, count, _ := strings.Cut(orders.Text(), " ")
		times, err := strconv.Atoi(count)
		if err == nil && text == paceOrder {
			disk.rate.Store(int64(times))
			fmt.Fprintln(out, 0)
			continue
		}
		mark, err2 := hex.DecodeString(text)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		fmt.Fprintln(out, disk.tell(mark, times))
	}
	select {
	case err = <-serving:
	default: // it ends with the process
	}
	return err
}

// attachLoop makes a loop device over a file. It is gone when nobody has it
// open or mounted.
func attachLoop(path string) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	backing, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer backing.Close()
	for range 20 { // others may take the free one before us
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		name := fmt.Sprintf("/dev/loop%d", n)
		device, err := os.OpenFile(name, os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) { // no devtmpfs makes it
			if err := unix.Mknod(name, unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(n)))); err != nil {
				return nil, fmt.Errorf("make %s: %w", name, err)
			}
			device, err = os.OpenFile(name, os.O_RDWR, 0)
		}
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &unix.LoopConfig{
			Fd: uint32(backing.Fd()), Size: uint32(os.Getpagesize()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}})
		if err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("attach %s to %s: %w", path, name, err)
		}
	}
	return nil, errors.New("all loop devices are taken")
}
