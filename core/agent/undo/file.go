package undo

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/transferpy/transferpy/core/agent/lines"
	"github.com/transferpy/transferpy/sdk"
)

// version of the file's lines.
const version = 1

// line is one line of the file. The first holds Version alone, each other
// exactly one of the rest.
type line struct {
	Version int     `json:"transferpy_undo,omitempty"`
	Defer   *Record `json:"defer,omitempty"`
	Done    string  `json:"done,omitempty"`
}

// load reads the file, drops what a crash left unfinished at its end, and
// leaves the offset there.
func (l *Log) load() error {
	good, err := l.parse(l.file)
	if err != nil {
		return err
	}
	if err := l.file.Truncate(good); err != nil {
		return err
	}
	if _, err := l.file.Seek(good, io.SeekStart); err != nil {
		return err
	}
	if good == 0 {
		return l.append(line{Version: version})
	}
	return l.file.Sync()
}

// parse takes all complete lines and returns how many bytes they are.
func (l *Log) parse(r io.Reader) (good int64, err error) {
	in := bufio.NewReader(r)
	for number := 1; ; number++ {
		text, err := lines.Next(in, maxLine)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return good, nil
		}
		if err != nil {
			return 0, fmt.Errorf("line %d: %w", number, err)
		}
		if err := l.take(number, text); err != nil {
			if _, peek := in.Peek(1); peek == io.EOF && !errors.Is(err, sdk.ErrUnsupported) {
				return good, nil // a crash of the machine may leave the last line full of zeros
			}
			return 0, fmt.Errorf("line %d: %w", number, err)
		}
		good += int64(len(text)) + 1
	}
}

// take applies one complete line.
func (l *Log) take(number int, text []byte) error {
	var ln line
	if err := json.Unmarshal(text, &ln); err != nil {
		return err
	}
	if number == 1 {
		if ln.Version != version {
			return &sdk.Error{Kind: sdk.KindUnsupported, Message: fmt.Sprintf("its version is %d, this agent reads version %d", ln.Version, version)}
		}
		return nil
	}
	switch {
	case ln.Defer != nil && ln.Defer.ID != "" && len(l.entries) < maxRecords:
		if l.byID[ln.Defer.ID] == nil {
			l.add(*ln.Defer)
		}
	case ln.Done != "" && l.byID[ln.Done] != nil:
		l.byID[ln.Done].done = true
	default:
		return errors.New("neither a record nor a done mark of one")
	}
	return nil
}

// append writes one line and syncs it. After a failure the file's end is not
// known, so every later append fails too. mu is held, or nobody else has l.
func (l *Log) append(ln line) error {
	if l.damage != nil {
		return l.damage
	}
	text, err := json.Marshal(ln)
	if err != nil {
		return err
	}
	if len(text) >= maxLine {
		return &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("an undo record of %d bytes is too large", len(text))}
	}
	if _, err := l.file.Write(append(text, '\n')); err != nil {
		l.damage = fmt.Errorf("write the undo log: %w", err)
		return l.damage
	}
	if err := l.file.Sync(); err != nil {
		l.damage = fmt.Errorf("write the undo log: %w", err)
		return l.damage
	}
	return nil
}
