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
	innodbRow = 555
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
			" title VARBINARY(255) NOT NULL, sha1 VARBINARY(32) NOT NULL, body TEXT NOT NULL) ENGINE=InnoDB;" +
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
		fmt.Fprintf(w, "\t%016x\t", random.Uint64())
		prose.write(w, 40+random.IntN(50))
		w.WriteByte('\n')
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// prose writes words as a language has them: few of them often, many seldom,
// and phrases that come again. zstd -1 makes rows of it about 4 times
// smaller, as it does the wikis' tables.
type prose struct {
	random  *rand.Rand
	words   []string
	zipf    *rand.Zipf
	phrases []string
}

func newProse(random *rand.Rand) *prose {
	p := &prose{random: random, zipf: rand.NewZipf(random, 1.15, 6, 7999)}
	for range 8000 {
		var word strings.Builder
		for range 1 + random.IntN(4) {
			word.WriteByte("bcdfghklmnprstvw"[random.IntN(16)])
			word.WriteByte("aeiou"[random.IntN(5)])
		}
		p.words = append(p.words, word.String())
	}
	for range 600 {
		var phrase []string
		for range 5 + random.IntN(12) {
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
		if n > 10 && p.random.IntN(14) == 0 {
			text = p.phrases[p.random.IntN(len(p.phrases))]
		}
		w.WriteString(text)
		w.WriteString(" ")
		n -= 1 + strings.Count(text, " ")
	}
}
