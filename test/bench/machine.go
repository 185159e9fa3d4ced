package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machineFacts describe the machine without naming it.
type machineFacts struct {
	cores  int
	cpu    string
	kernel string
	memory int64 // bytes
}

// String implements fmt.Stringer.
func (m machineFacts) String() string {
	return fmt.Sprintf("%d cores (%s), %.0f GiB of memory, Linux %s", m.cores, m.cpu, float64(m.memory)/(1<<30), m.kernel)
}

// machine describes this machine; what cannot be found out is left empty.
func machine(ctx context.Context) machineFacts {
	m := machineFacts{cores: runtime.NumCPU(), cpu: procField("/proc/cpuinfo", "model name")}
	kib, _, _ := strings.Cut(procField("/proc/meminfo", "MemTotal"), " ")
	m.memory, _ = strconv.ParseInt(kib, 10, 64)
	m.memory <<= 10
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "uname", "-r").Output()
	// What follows the numbers names a builder or a provider.
	m.kernel, _, _ = strings.Cut(strings.TrimSpace(string(out)), "-")
	return m
}

// busy is how many processes want to run on average of the last minute; 0
// when it cannot be found out.
func busy() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// procField is the value of the first line of that name in a file of /proc.
func procField(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, found := strings.Cut(s.Text(), ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// version is what the transferpy under test calls itself.
func (o *options) version() string {
	out, err := exec.Command(filepath.Join(o.bin, "transferpy"), "version").Output()
	if err != nil {
		return "transferpy"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
