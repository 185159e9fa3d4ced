package daemon

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
)

// On an agent's socket, one connection carries one request and one reply,
// each behind its length (4 bytes, big endian). While it waits for the reply
// the caller keeps its side open; closing that says "answer now".

// transferTime is how long one message may take over the socket.
const transferTime = 30 * time.Second

// send writes one message.
func send(conn net.Conn, data []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(transferTime)); err != nil {
		return err
	}
	_, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

// receive reads one message, which must begin within the given time.
func receive(conn net.Conn, within time.Duration) ([]byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > control.MaxMessage {
		return nil, fmt.Errorf("a message of %d bytes", size)
	}
	if err := conn.SetReadDeadline(time.Now().Add(transferTime)); err != nil {
		return nil, err
	}
	// The buffer grows with what comes, not with what was announced.
	var data bytes.Buffer
	if _, err := io.CopyN(&data, conn, int64(size)); err != nil {
		return nil, err
	}
	return data.Bytes(), nil
}
