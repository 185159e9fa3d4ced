// Command lab makes a lab of hosts and leaves it up for a person to play
// with.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/transferpy/transferpy/test/lab"
)

const usage = `usage: lab COMMAND [-name NAME] [ARGUMENTS]

  up [-hosts N] [-bin DIR] [-disk DIR]   make a lab; ctl has the programs of DIR (bin)
  down                                   remove it, whatever is left of it
  status                                 show it, or all labs
  exec HOST -- CMD [ARG...]              run a command on ctl, db1, db2, ...
  cut HOST, mend HOST                    take a host off the network, and back
  cap HOST RATE                          limit its link ("200mbit"; "none": no limit)
`

// errUsage is a command line that says nothing.
var errUsage = errors.New("that is not how it is used")

func main() {
	lab.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		if errors.Is(err, errUsage) {
			fmt.Fprint(os.Stderr, usage)
		}
		os.Exit(1)
	}
}

// run carries out one command.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	flags := flag.NewFlagSet("lab "+args[0], flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage) }
	name := flags.String("name", "default", "name of the lab")
	hosts := flags.Int("hosts", 4, "number of hosts beside the control host")
	bin := flags.String("bin", "bin", "directory that the control host has in its PATH")
	disk := flags.String("disk", "", "directory below which the hosts' /srv lie; default: in memory")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "up" {
		return up(ctx, lab.Options{Name: *name, Hosts: *hosts, Bin: *bin, Disk: *disk}, stdout)
	}
	if args[0] == "down" {
		return lab.Down(*name)
	}
	if args[0] == "status" {
		return status(stdout)
	}
	l, err := lab.Open(*name)
	if err != nil {
		return err
	}
	rest := flags.Args()
	switch {
	case args[0] == "exec" && len(rest) >= 2:
		return execute(l, rest[0], rest[1:])
	case args[0] == "cut" && len(rest) == 1:
		return l.Cut(rest[0])
	case args[0] == "mend" && len(rest) == 1:
		return l.Mend(rest[0])
	case args[0] == "cap" && len(rest) == 2:
		return l.Cap(rest[0], strings.TrimSuffix(rest[1], "none"))
	}
	return errUsage
}

// up makes a lab that outlives this program.
func up(ctx context.Context, o lab.Options, stdout io.Writer) error {
	if err := os.MkdirAll(o.Bin, 0o755); err != nil { // nothing may be built yet
		return err
	}
	l, err := lab.Up(ctx, o)
	if err != nil {
		return err
	}
	if err := l.Keep(); err != nil {
		return errors.Join(err, l.Close())
	}
	show(l, stdout)
	fmt.Fprintf(stdout, `
  go run ./test/lab/cmd/lab exec -name %[1]s ctl -- bash    a shell on the control host; there: ssh db1
  go run ./test/lab/cmd/lab down -name %[1]s                remove all of it
`, l.Name)
	return nil
}

// status shows the labs of this machine.
func status(stdout io.Writer) error {
	names, err := lab.List()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		fmt.Fprintln(stdout, "no lab is up")
	}
	for _, name := range names {
		l, err := lab.Open(name)
		if err != nil {
			fmt.Fprintf(stdout, "lab %s: %v\n", name, err)
			continue
		}
		show(l, stdout)
	}
	return nil
}

func show(l *lab.Lab, stdout io.Writer) {
	state := "up"
	if !l.Alive() {
		state = "dead"
	}
	fmt.Fprintf(stdout, "lab %s is %s, made %s\n", l.Name, state, l.Made.Local().Format("2006-01-02 15:04:05"))
	for _, h := range l.Hosts {
		fmt.Fprintf(stdout, "  %-5s %-12s %-12s process %d\n", h.Name, h.IPv4, h.IPv6, h.PID)
	}
}

// execute replaces this program by a command inside a host, so that its
// terminal, its signals and its exit code are the command's.
func execute(l *lab.Lab, host string, argv []string) error {
	if argv[0] == "--" {
		argv = argv[1:]
	}
	if len(argv) == 0 {
		return errUsage
	}
	argv, env, err := l.Argv(host, argv...)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	if term := os.Getenv("TERM"); term != "" {
		env = append(env, "TERM="+term)
	}
	return syscall.Exec(path, argv, env)
}
