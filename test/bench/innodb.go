package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The tables of the InnoDB directory. Eight of one size: a real server has a
// few large files, which is what parallel reading of large files lives on.
const (
	innodbTables = 8
	// innodbRow is about what a row takes in its file, so that the size asked
	// for is met within a few percent.
	innodbRow = 690
	// innodbBase is what an empty server's directory takes, its redo log
	// above all.
	innodbBase = 115 << 20
)

// buildInnoDB makes a data directory of about size bytes with a real server,
// which it starts, fills and shuts down cleanly. dir is made whole or not at
// all.
func buildInnoDB(ctx context.Context, dir string, size int64) error {
	work, err := os.MkdirTemp(filepath.Dir(dir), "making-innodb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	data := filepath.Join(work, "data")
	install := exec.CommandContext(ctx, "mariadb-install-db", "--no-defaults", "--datadir="+data, "--user=root",
		"--auth-root-authentication-method=normal", "--skip-test-db")
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("mariadb-install-db: %w: %s", err, out)
	}
	if err := withServer(ctx, work, data, func(socket string) error { return fill(ctx, work, socket, size) }); err != nil {
		return err
	}
	return os.Rename(data, dir)
}

// withServer runs a server on data while use lasts, and waits for its clean
// end. It listens on a socket in work alone.
func withServer(ctx context.Context, work, data string, use func(socket string) error) error {
	socket, log := filepath.Join(work, "sock"), filepath.Join(work, "log")
	server := exec.CommandContext(ctx, "mariadbd", "--no-defaults", "--datadir="+data, "--socket="+socket,
		"--pid-file="+filepath.Join(work, "pid"), "--log-error="+log, "--user=root", "--skip-networking", "--skip-grant-tables",
		// Speed of filling; what lies on the disk after a clean end is the same.
		"--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-buffer-pool-size=512M", "--innodb-stats-auto-recalc=0")
	if err := server.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	err := awaitServer(ctx, socket, ended)
	if err == nil {
		err = use(socket)
	}
	if err == nil {
		err = query(ctx, socket, "SHUTDOWN WAIT FOR ALL SLAVES")
	}
	if err != nil {
		server.Process.Kill()
		<-ended
		text, _ := os.ReadFile(log)
		return fmt.Errorf("%w; the server's log ends: %s", err, text[max(0, len(text)-2000):])
	}
	select {
	case err = <-ended:
	case <-time.After(5 * time.Minute):
		server.Process.Kill()
		err = errors.Join(errors.New("the server did not shut down within 5 minutes"), <-ended)
	}
	return err
}

// awaitServer waits until the server answers.
func awaitServer(ctx context.Context, socket string, ended chan error) error {
	for deadline := time.Now().Add(time.Minute); ; {
		err := query(ctx, socket, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case dead := <-ended:
			ended <- dead
			return fmt.Errorf("the server ended at once: %w", dead)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server does not answer: %w", err)
		}
	}
}

func query(ctx context.Context, socket, sql string) error {
	out, err := exec.CommandContext(ctx, "mariadb", "--no-defaults", "--socket="+socket, "--user=root", "--execute="+sql).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mariadb: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// fill loads the tables, one after the other.
func fill(ctx context.Context, work, socket string, size int64) error {
	if err := query(ctx, socket, "CREATE DATABASE bench"); err != nil {
		return err
	}
	rows := int(max(size-innodbBase, 16<<20) / innodbTables / innodbRow)
	for table := range innodbTables {
		text := filepath.Join(work, "rows")
		if err := writeRows(text, table, rows); err != nil {
			return err
		}
		name := "bench.page" + strconv.Itoa(table)
		sql := "CREATE TABLE " + name + " (id INT UNSIGNED PRIMARY KEY, touched DATETIME NOT NULL, namespace INT NOT NULL," +
			" title VARBINARY(255) NOT NULL, token VARBINARY(120) NOT NULL, body TEXT NOT NULL) ENGINE=InnoDB;" +
			" LOAD DATA INFILE '" + text + "' INTO TABLE " + name
		if err := query(ctx, socket, sql); err != nil {
			return fmt.Errorf("fill %s: %w", name, err)
		}
		if err := os.Remove(text); err != nil {
			return err
		}
	}
	return nil
}

// writeRows writes rows as LOAD DATA takes them: the same for the same table
// at all times.
func writeRows(path string, table, rows int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	random := rand.New(rand.NewChaCha8([32]byte{byte(table)}))
	prose := newProse(random)
	began := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for id := range rows {
		began = began.Add(time.Duration(random.IntN(600)) * time.Second)
		fmt.Fprintf(w, "%d\t%s\t%d\t", id+1, began.Format(time.DateTime), random.IntN(16))
		prose.write(w, 3)
		w.WriteByte('\t')
		for range tokenBytes {
			w.WriteByte(letters[random.IntN(len(letters))])
		}
		w.WriteByte('\t')
		prose.write(w, 40+random.IntN(50))
		w.WriteByte('\n')
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// letters are what words and tokens are made of: as many as base64 has, so
// that it is repetition that can be compressed and not the letters.
const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// tokenBytes is the share of a row that does not repeat at all.
const tokenBytes = 90

// prose writes words as a language has them: few of them often, many seldom,
// and phrases that come again. Rows of it and of a token get smaller as real
// tables do: about 4 times by zstd -1, 2.7 by minlz SuperFast, 3.5 by minlz
// Fastest. Were it words alone, zstd would be far ahead of the others.
type prose struct {
	random  *rand.Rand
	words   []string
	zipf    *rand.Zipf
	phrases []string
}

func newProse(random *rand.Rand) *prose {
	const words = 3000
	p := &prose{random: random, zipf: rand.NewZipf(random, 1.3, 2, words-1)}
	for range words {
		word := make([]byte, 2+2*random.IntN(4))
		for i := range word {
			word[i] = letters[random.IntN(len(letters))]
		}
		p.words = append(p.words, string(word))
	}
	for range 600 {
		var phrase []string
		for range 12 + random.IntN(24) {
			phrase = append(phrase, p.word())
		}
		p.phrases = append(p.phrases, strings.Join(phrase, " "))
	}
	return p
}

func (p *prose) word() string { return p.words[p.zipf.Uint64()] }

// write writes at least n words.
func (p *prose) write(w io.StringWriter, n int) {
	for n > 0 {
		text := p.word()
		if n > 4 && p.random.IntN(5) == 0 {
			text = p.phrases[p.random.IntN(len(p.phrases))]
		}
		w.WriteString(text)
		w.WriteString(" ")
		n -= 1 + strings.Count(text, " ")
	}
}
