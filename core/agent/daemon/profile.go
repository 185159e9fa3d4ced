package daemon

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/metrics"
	"runtime/pprof"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// profileDir asks for profiles: where it exists in the state directory, closed
// to others, each agent that starts leaves in it what its time and its memory
// went to. Whoever made it may do so on that host anyway, and takes it away.
// There is no other way: no port, no option, nothing that a peer or the
// controller could ask for.
const profileDir = "profile"

// heapEvery is how often a profiler looks whether the heap has grown.
const heapEvery = time.Second

// profiler writes the profiles of one agent: TRANSFER-AGENT.cpu.pprof at its
// end, and TRANSFER-AGENT.heap.pprof when its heap was at its largest.
type profiler struct {
	log  *slog.Logger
	heap string
	cpu  *os.File
	quit chan struct{}
	wg   sync.WaitGroup
}

// startProfiler starts one if somebody asked for it; else it returns nil.
// What goes wrong costs the profile, not the transfer.
func startProfiler(config *serveConfig, log *slog.Logger) *profiler {
	dir := filepath.Join(config.StateDir, profileDir)
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		if !errors.Is(err, unix.ENOENT) {
			log.Warn("no profile", "error", err)
		}
		return nil
	}
	if err := private(&st, unix.S_IFDIR); err != nil {
		log.Warn("no profile", "directory", dir, "error", err)
		return nil
	}
	name := filepath.Join(dir, config.Transfer+"-"+config.Agent)
	cpu, err := os.OpenFile(name+".cpu.pprof", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = pprof.StartCPUProfile(cpu)
	}
	if err != nil {
		log.Warn("no profile", "error", err)
		return nil
	}
	p := &profiler{log: log, heap: name + ".heap.pprof", cpu: cpu, quit: make(chan struct{})}
	p.wg.Go(p.watchHeap)
	return p
}

// stop writes what is not written yet. A nil profiler has nothing.
func (p *profiler) stop() {
	if p == nil {
		return
	}
	close(p.quit)
	p.wg.Wait()
	pprof.StopCPUProfile()
	if err := p.cpu.Close(); err != nil {
		p.log.Warn("the profile of the CPU is not whole", "error", err)
	}
}

// watchHeap writes the heap's profile whenever the heap has grown by a tenth.
func (p *profiler) watchHeap() {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	ticker := time.NewTicker(heapEvery)
	defer ticker.Stop()
	for largest := uint64(0); ; {
		if metrics.Read(sample); sample[0].Value.Uint64() > largest+largest/10 {
			largest = sample[0].Value.Uint64()
			if err := p.writeHeap(); err != nil {
				p.log.Warn("no profile of the heap", "error", err)
				return
			}
		}
		select {
		case <-ticker.C:
		case <-p.quit:
			return
		}
	}
}

func (p *profiler) writeHeap() error {
	file, err := os.OpenFile(p.heap+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(pprof.WriteHeapProfile(file), file.Close()); err != nil {
		return err
	}
	return os.Rename(p.heap+".new", p.heap)
}
