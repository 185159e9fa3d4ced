package unpack

import (
	"io"
	"sync"
)

// ahead reads a stream in a goroutine of its own, so that decompression and
// writing go on at the same time.
type ahead struct {
	full  chan []byte // read, in order; closed at the end
	empty chan []byte
	stop  chan struct{}
	err   error // why the reading ended; set before full is closed
	wait  sync.WaitGroup

	now  []byte // what is left of the buffer that is being handed out
	back []byte // that buffer
}

// aheadBuffers is how many buffers of bufferLen are under way.
const aheadBuffers = 8

func newAhead(in io.Reader) *ahead {
	a := &ahead{full: make(chan []byte, aheadBuffers), empty: make(chan []byte, aheadBuffers), stop: make(chan struct{})}
	for range aheadBuffers {
		a.empty <- make([]byte, bufferLen)
	}
	a.wait.Go(func() { a.run(in) })
	return a
}

func (a *ahead) run(in io.Reader) {
	defer close(a.full)
	for {
		var b []byte
		select {
		case b = <-a.empty:
		case <-a.stop:
			return
		}
		n, err := io.ReadFull(in, b)
		if n > 0 {
			a.full <- b[:n] // there is room for all buffers
		}
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		if err != nil {
			a.err = err
			return
		}
	}
}

// Read implements io.Reader.
func (a *ahead) Read(p []byte) (int, error) {
	if len(a.now) == 0 {
		if a.back != nil {
			a.empty <- a.back[:bufferLen]
			a.back = nil
		}
		b, ok := <-a.full
		if !ok {
			return 0, a.err
		}
		a.now, a.back = b, b
	}
	n := copy(p, a.now)
	a.now = a.now[n:]
	return n, nil
}

// close waits for the goroutine, whose reading must have ended or end by
// itself.
func (a *ahead) close() {
	close(a.stop)
	a.wait.Wait()
}
