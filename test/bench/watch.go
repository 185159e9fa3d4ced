package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

// watchEvery is how often agents are asked for their memory. What is asked is
// a high-water mark, so only its growth after the last question is missed.
const watchEvery = 150 * time.Millisecond

// agentName is an agent's name as the kernel keeps it, at most 15 bytes.
const agentName = "transferpy-agen"

// watch notes the largest resident memory of an agent on each host, until stop
// is called, which waits and returns them in bytes.
func (s *stage) watch(ctx context.Context, hosts []string) (stop func() map[string]int64) {
	ctx, cancel := context.WithCancel(ctx)
	peaks := map[string]int64{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for ticker := time.NewTicker(watchEvery); ; {
			select {
			case <-ctx.Done():
				ticker.Stop()
				return
			case <-ticker.C:
			}
			for _, host := range hosts {
				list, _ := s.lab.Processes(host)
				for _, p := range agents(list) {
					peaks[host] = max(peaks[host], highWater(p.PID))
				}
			}
		}
	})
	return func() map[string]int64 {
		cancel()
		wg.Wait()
		return peaks
	}
}

func agents(list []lab.Process) []lab.Process {
	var found []lab.Process
	for _, p := range list {
		if p.Name == agentName && p.State != 'Z' {
			found = append(found, p)
		}
	}
	return found
}

// highWater is the largest resident memory that a process has had, in bytes;
// 0 when it is gone.
func highWater(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if value, found := strings.CutPrefix(s.Text(), "VmHWM:"); found {
			kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// settle waits until no agent is left, so that its CPU time is counted and it
// disturbs nobody who is measured next.
func (s *stage) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, host := range append([]string{sourceHost}, targetHosts(s.fan)...) {
		for {
			list, err := s.lab.Processes(host)
			if err != nil {
				return err
			}
			left := agents(list)
			if len(left) == 0 {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("agents are left on %s after 30 s: %v", host, left)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}
