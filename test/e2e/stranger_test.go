package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// strangerEnv makes a process of this test program, started on a host of the
// lab, a stranger who comes to an agent's port: "KIND ADDRESS ARGUMENT".
const strangerEnv = "E2E_STRANGER"

// strangerBin is where the control host finds this test program.
const strangerBin = "/opt/transferpy/bin/stranger"

// strangerSaw is what a stranger tells, as JSON on standard output.
type strangerSaw struct {
	Connected int64  `json:"connected"` // by TCP
	Bytes     int64  `json:"bytes"`     // that came: within TLS, or without it
	Key       string `json:"key"`       // the agent's public key, as it shows it to anybody; hex
	Error     string `json:"error"`     // the last
}

// strangerMain turns a process that was started as a stranger into one; it then
// does not return.
func strangerMain() {
	words := strings.Fields(os.Getenv(strangerEnv))
	if len(words) == 0 {
		return
	}
	kind, address, argument := words[0], words[1], strings.Join(words[2:], " ")
	kinds := map[string]func(*strangerSaw, string, string){"plain": strangerPlain, "tls": strangerTLS, "cert": strangerCert, "flood": strangerFlood, "loris": strangerLoris}
	saw := &strangerSaw{}
	kinds[kind](saw, address, argument)
	json.NewEncoder(os.Stdout).Encode(saw)
	os.Exit(0)
}

// strangerFor bounds one try of a stranger.
const strangerFor = 6 * time.Second

// strangerPlain says the argument, unquoted, without TLS.
func strangerPlain(saw *strangerSaw, address, argument string) {
	text, err := strconv.Unquote(argument)
	if err != nil {
		saw.Error = err.Error()
		return
	}
	c, err := net.DialTimeout("tcp", address, strangerFor)
	if err != nil {
		saw.Error = err.Error()
		return
	}
	defer c.Close()
	saw.Connected = 1
	c.SetDeadline(time.Now().Add(strangerFor))
	io.WriteString(c, text)
	saw.Bytes, err = io.Copy(io.Discard, c)
	saw.note(err)
}

func (s *strangerSaw) note(err error) {
	if err != nil {
		s.Error = err.Error()
	}
}

// strangerTLS does a handshake without a certificate.
func strangerTLS(saw *strangerSaw, address, _ string) { saw.handshake(address, &tls.Config{}, "") }

// strangerCert shows a certificate whose key is the seed in the argument (a
// new one: "new"), and then says hello for the transfer that follows.
func strangerCert(saw *strangerSaw, address, argument string) {
	seed, transfer, _ := strings.Cut(argument, " ")
	secret := make([]byte, ed25519.SeedSize)
	rand.Read(secret)
	if seed != "new" {
		secret, _ = hex.DecodeString(seed)
	}
	key := ed25519.NewKeyFromSeed(secret)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		saw.note(err)
		return
	}
	saw.handshake(address, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, transfer)
}

// handshake counts what comes after a handshake, and takes the agent's key.
func (s *strangerSaw) handshake(address string, config *tls.Config, transfer string) {
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if key, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey); ok {
			s.Key = hex.EncodeToString(key)
		}
		return nil
	}
	raw, err := net.DialTimeout("tcp", address, strangerFor)
	if err != nil {
		s.note(err)
		return
	}
	defer raw.Close()
	s.Connected = 1
	raw.SetDeadline(time.Now().Add(strangerFor))
	c := tls.Client(raw, config)
	if err := c.Handshake(); err != nil {
		s.note(err)
		return
	}
	if transfer != "" {
		hello := fmt.Appendf(nil, `{"v":1,"transfer":%q,"from":"source","to":"target-1","purpose":"data"}`, transfer)
		c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(hello))), hello...))
	}
	s.Bytes, err = io.Copy(io.Discard, c)
	s.note(err)
}

// strangerFlood opens as many connections as the argument says and holds those
// that stay open.
func strangerFlood(saw *strangerSaw, address, argument string) {
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 20000, Max: 20000})
	n, _ := strconv.Atoi(argument)
	var connected, bytes atomic.Int64
	var all sync.WaitGroup
	for range 100 { // at once
		all.Go(func() {
			for range n / 100 {
				c, err := net.DialTimeout("tcp", address, strangerFor)
				if err != nil {
					continue
				}
				connected.Add(1)
				all.Go(func() {
					defer c.Close()
					c.SetDeadline(time.Now().Add(strangerFor))
					got, _ := io.Copy(io.Discard, c)
					bytes.Add(got)
				})
			}
		})
	}
	all.Wait()
	saw.Connected, saw.Bytes = connected.Load(), bytes.Load()
}

// strangerLoris keeps 200 connections open that say a byte a second, for as
// many seconds as the argument says.
func strangerLoris(saw *strangerSaw, address, argument string) {
	seconds, _ := strconv.Atoi(argument)
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	var connected, bytes atomic.Int64
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			for time.Now().Before(end) {
				c, err := net.DialTimeout("tcp", address, time.Second)
				if err != nil {
					continue
				}
				connected.Add(1)
				all.Go(func() {
					got, _ := io.Copy(io.Discard, c)
					bytes.Add(got)
				})
				for time.Now().Before(end) {
					if _, err := c.Write([]byte{22}); err != nil { // as TLS begins
						break
					}
					time.Sleep(time.Second)
				}
				c.Close()
			}
		})
	}
	all.Wait()
	saw.Connected, saw.Bytes = connected.Load(), bytes.Load()
}

var copyStranger = sync.OnceValue(func() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return copyFile(self, filepath.Join(binDir, "stranger"), 0o755)
})

// startStranger sends a stranger from the control host, which has no part in
// the data, to an agent.
func (r *rig) startStranger(kind, address, argument string) *job {
	r.t.Helper()
	if err := copyStranger(); err != nil {
		r.t.Fatal(err)
	}
	return r.startArgv([]string{strangerEnv + "=" + kind + " " + address + " " + argument}, strangerBin)
}

// stranger is startStranger to its end.
func (r *rig) stranger(kind, address, argument string) strangerSaw {
	r.t.Helper()
	return r.sawOf(r.startStranger(kind, address, argument))
}

func (r *rig) sawOf(j *job) strangerSaw {
	r.t.Helper()
	res := j.wants(0)
	var saw strangerSaw
	if err := json.Unmarshal([]byte(res.stdout), &saw); err != nil {
		r.t.Fatalf("%v\n%s", err, j.transcript())
	}
	return saw
}

// dataPort is the port of a host's agent.
func (r *rig) dataPort(host string) int {
	r.t.Helper()
	found := 0
	r.until(func() error {
		ports, err := r.Listening(host)
		for _, p := range ports {
			if p != 22 {
				found = p
				return nil
			}
		}
		return fmt.Errorf("%s has no agent's port: %v, %v", host, ports, err)
	})
	return found
}

// address is where a host's agent listens.
func (r *rig) address(host string) string {
	r.t.Helper()
	h, err := r.Host(host)
	if err != nil {
		r.t.Fatal(err)
	}
	return net.JoinHostPort(h.IPv4, strconv.Itoa(r.dataPort(host)))
}

// TestStrangers: whoever comes to an agent's port and is none of the transfer's
// gets nothing, keeps nobody out, and is not noticed by the transfer; be it one
// with the key of another transfer, or a crowd, also while the link has to be
// made anew.
func TestStrangers(t *testing.T) {
	t.Parallel()
	for _, encrypt := range []string{"--encrypt", "--no-encrypt"} {
		t.Run(encrypt, func(t *testing.T) {
			t.Parallel()
			r := slowRig(t, 3)
			r.sh("db3", "mkdir /srv/other")
			j := r.start(nil, encrypt, "--limit-rate", "3M", "db1:/srv/data", "db2:/srv/in")
			j.moving("db2", "/srv/in")
			address := r.address("db2")
			id := idForm.FindString(j.stderr.String())
			other := r.start(nil, "--limit-rate", "1M", "db1:/srv/data", "db3:/srv/other")
			other.moving("db3", "/srv/other")
			theirs := r.tlsSeed("db3", r.address("db3"))
			other.signal(syscall.SIGINT)

			for _, try := range [][2]string{
				{"plain", `""`}, {"plain", `"GET / HTTP/1.0\r\n\r\n"`}, {"plain", `"TPY1` + strings.Repeat("a", 32) + `"`},
				{"tls", ""}, {"cert", "new " + id}, {"cert", theirs + " " + id},
			} {
				saw := r.stranger(try[0], address, try[1])
				if saw.Connected != 1 || saw.Bytes != 0 || saw.Error == "" && try[0] != "plain" {
					t.Errorf("a stranger (%s) saw %+v", try[0], saw)
				}
			}
			if saw := r.stranger("flood", address, "10000"); saw.Connected < 9000 || saw.Bytes != 0 {
				t.Errorf("the flood saw %+v", saw)
			}
			loris := r.startStranger("loris", address, "9")
			if err := r.Cut("db1"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(6 * time.Second) // longer than a silent peer is waited for
			if err := r.Mend("db1"); err != nil {
				t.Fatal(err)
			}
			if saw := r.sawOf(loris); saw.Connected < 200 || saw.Bytes != 0 {
				t.Errorf("the slow ones saw %+v", saw)
			}
			if j.ended() {
				t.Error("the transfer had ended before the strangers did")
			}
			j.wants(0)
			r.same("db1", "/srv/data", "db2", "/srv/in/data")
			other.wants(130)
			r.clean()
		})
	}
}
