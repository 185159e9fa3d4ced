package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// hop is a host to connect to, in the words of ssh_config; the key under
// which its connection is kept.
type hop struct {
	user string // empty: as configured
	host string
	port int    // 0: as configured
	via  string // jump hosts, separated by commas, instead of the configured ones

	// depth is 0 for a host that commands run on and one more for each jump
	// host in front of it. As it always grows, connections can wait for
	// those of their jump hosts without ever waiting in a circle.
	depth int
}

// settings are what ssh would do for a hop.
type settings struct {
	host              string // as the operator named it, without user
	hostName          string // what to connect to
	port              int
	user              string
	identityFiles     []string
	certificateFiles  []string
	identitiesOnly    bool
	identityAgent     string // a socket; empty: no agent
	proxyJump         string
	proxyCommand      string
	knownHosts        []string // the first is where accepted keys are written
	hostKeyAlias      string
	strictHostKeys    string // yes, no or accept-new
	hostKeyAlgorithms []string
	pubkeyAlgorithms  []string
	ciphers           []string
	kexAlgorithms     []string
	macs              []string
	network           string // of the connection: tcp, tcp4 or tcp6
	bindAddress       string // where it comes from; empty: as the kernel likes
	connectTimeout    time.Duration
	aliveInterval     time.Duration // 0: none asked for
	aliveCount        int
}

var (
	// A leading dash would be an option of ssh; the rest has no meaning in a
	// shell, a URL or a known_hosts pattern. Colons and % are for IPv6.
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9_:][A-Za-z0-9._:%-]{0,254}$`)
	userPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}\$?$`)
)

func validUser(s string) bool { return userPattern.MatchString(s) }

// parseHop takes [user@]host, as operators write it.
func parseHop(name string) (hop, *sdk.Error) {
	h := hop{host: name}
	if u, rest, ok := strings.Cut(name, "@"); ok {
		h.user, h.host = u, rest
	}
	if !hostPattern.MatchString(h.host) || h.user != "" && !validUser(h.user) || strings.HasPrefix(name, "@") {
		return hop{}, &sdk.Error{
			Kind:    sdk.KindConfig,
			Message: fmt.Sprintf("%q is no host name for ssh", name),
			Hint:    "a name, an alias of ssh_config or an address, perhaps with user@ before it",
		}
	}
	return h, nil
}

// parseJump takes an element of ProxyJump: [user@]host[:port], with brackets
// around an IPv6 address, or the same as an ssh:// URL.
func parseJump(spec string) (hop, *sdk.Error) {
	rest := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(spec), "ssh://"), "/")
	h := hop{host: rest}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		h.user, h.host = rest[:i], rest[i+1:]
	}
	port := ""
	if inner, after, ok := strings.Cut(strings.TrimPrefix(h.host, "["), "]"); ok {
		h.host, port = inner, strings.TrimPrefix(after, ":")
	} else if strings.Count(h.host, ":") == 1 {
		h.host, port, _ = strings.Cut(h.host, ":")
	}
	var err error
	if port != "" {
		h.port, err = strconv.Atoi(port)
	}
	if err != nil || h.port < 0 || h.port > 65535 || !hostPattern.MatchString(h.host) || h.user != "" && !validUser(h.user) {
		return hop{}, &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("ProxyJump %q is no [user@]host[:port]", spec), Hint: "mend it in ssh_config"}
	}
	return h, nil
}

// lookup asks the installed ssh what it would do for the hop: only so are
// Match exec, Include and whatever comes next honoured.
func (o *options) lookup(ctx context.Context, h hop) (*settings, *sdk.Error) {
	args := []string{"-G", "-T"}
	if o.config != "" {
		args = append(args, "-F", o.config)
	}
	login, port := h.user, h.port
	if h.depth == 0 {
		if login == "" {
			login = o.user
		}
		if port == 0 {
			port = o.port
		}
	}
	if login != "" {
		args = append(args, "-l", login)
	}
	if port != 0 {
		args = append(args, "-p", strconv.Itoa(port))
	}
	ctx, cancel := context.WithTimeout(ctx, defaultConnectTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ssh", append(args, "--", h.host)...)
	cmd.WaitDelay = time.Second // a Match exec may have left children
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, lookupFailure(h, err, stderr.String())
	}
	s, err := parseSettings(stdout.String(), h.host)
	if err != nil {
		return nil, err
	}
	if h.depth == 0 {
		if o.knownHosts != "" {
			s.knownHosts = []string{o.knownHosts}
		}
		if o.connectTimeout != 0 {
			s.connectTimeout = o.connectTimeout
		}
	}
	return s, nil
}

func lookupFailure(h hop, err error, stderr string) *sdk.Error {
	if errors.Is(err, exec.ErrNotFound) {
		return &sdk.Error{
			Kind:    sdk.KindMissingTool,
			Message: "ssh is not installed on this machine, and only it knows how a host is configured",
			Hint:    "apt-get install openssh-client",
		}
	}
	return &sdk.Error{
		Kind:    sdk.KindConfig,
		Message: fmt.Sprintf("ssh -G %s failed: %v", h.host, err),
		Hint:    "mend the ssh configuration until that command works",
		Stderr:  stderr[max(0, len(stderr)-2048):],
	}
}

// parseSettings reads the output of ssh -G: a line for each option, its name
// in lower case.
func parseSettings(text, host string) (*settings, *sdk.Error) {
	s := &settings{
		host: host, hostName: host, port: 22, network: "tcp",
		strictHostKeys: "yes", identityAgent: os.Getenv("SSH_AUTH_SOCK"),
		connectTimeout: defaultConnectTimeout, aliveCount: 3,
	}
	var user, global []string
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		switch key {
		case "userknownhostsfile":
			user = splitPaths(value)
		case "globalknownhostsfile":
			global = splitPaths(value)
		case "hostkeyalgorithms":
			s.hostKeyAlgorithms = strings.Split(value, ",")
		case "pubkeyacceptedalgorithms":
			s.pubkeyAlgorithms = strings.Split(value, ",")
		case "ciphers":
			s.ciphers = strings.Split(value, ",")
		case "kexalgorithms":
			s.kexAlgorithms = strings.Split(value, ",")
		case "macs":
			s.macs = strings.Split(value, ",")
		case "stricthostkeychecking":
			s.strictHostKeys = strictness(value)
		case "identityfile":
			s.identityFiles = append(s.identityFiles, value)
		case "certificatefile":
			s.certificateFiles = append(s.certificateFiles, value)
		default:
			s.set(key, value)
		}
	}
	s.knownHosts = append(user, global...)
	return s, s.expandAll()
}

// set takes the options that are one plain value.
func (s *settings) set(key, value string) {
	number, _ := strconv.Atoi(value)
	switch key {
	case "hostname":
		s.hostName = value
	case "port":
		s.port = number
	case "user":
		s.user = value
	case "identitiesonly":
		s.identitiesOnly = value == "yes"
	case "identityagent":
		s.identityAgent = agentSocket(value)
	case "proxyjump":
		s.proxyJump = notNone(value)
	case "proxycommand":
		s.proxyCommand = notNone(value)
	case "hostkeyalias":
		s.hostKeyAlias = value
	case "addressfamily":
		s.network = map[string]string{"inet": "tcp4", "inet6": "tcp6"}[value]
		if s.network == "" {
			s.network = "tcp"
		}
	case "bindaddress":
		s.bindAddress = notNone(value)
	case "connecttimeout":
		if number > 0 {
			s.connectTimeout = time.Duration(number) * time.Second
		}
	case "serveraliveinterval":
		s.aliveInterval = time.Duration(number) * time.Second
	case "serveralivecountmax":
		s.aliveCount = max(1, number)
	}
}

func notNone(value string) string {
	if value == "none" {
		return ""
	}
	return value
}

// strictness folds the ways of StrictHostKeyChecking. Nobody is there to be
// asked, so ask is yes.
func strictness(value string) string {
	switch value {
	case "no", "off", "false":
		return "no"
	case "accept-new":
		return value
	}
	return "yes"
}

// agentSocket resolves IdentityAgent but for ~ and %.
func agentSocket(value string) string {
	switch {
	case value == "none":
		return ""
	case value == "SSH_AUTH_SOCK":
		return os.Getenv("SSH_AUTH_SOCK")
	case strings.HasPrefix(value, "$"):
		return os.Getenv(strings.Trim(value[1:], "{}"))
	}
	return value
}

// splitPaths splits a list that ssh -G prints without quotes: a blank ends a
// path only where another one begins.
func splitPaths(list string) []string {
	var paths []string
	for _, word := range strings.Split(list, " ") {
		begins := strings.HasPrefix(word, "/") || strings.HasPrefix(word, "~") || strings.HasPrefix(word, "%")
		switch {
		case begins:
			paths = append(paths, word)
		case len(paths) > 0:
			paths[len(paths)-1] += " " + word
		}
	}
	return paths
}

// expandAll resolves ~ and % in the paths, which ssh -G prints as written.
func (s *settings) expandAll() *sdk.Error {
	for _, list := range []([]string){s.identityFiles, s.certificateFiles, s.knownHosts} {
		for i := range list {
			path, err := s.expand(list[i])
			if err != nil {
				return err
			}
			list[i] = path
		}
	}
	socket, err := s.expand(s.identityAgent)
	s.identityAgent = socket
	return err
}

// expand resolves a leading ~ and the tokens of ssh_config that make sense in
// a path.
func (s *settings) expand(path string) (string, *sdk.Error) {
	home, _ := os.UserHomeDir()
	if path == "~" || strings.HasPrefix(path, "~/") {
		path = home + path[1:]
	}
	if !strings.Contains(path, "%") {
		return path, nil
	}
	me := ""
	if u, err := user.Current(); err == nil {
		me = u.Username
	}
	key := s.hostKeyAlias
	if key == "" {
		key = s.host
	}
	tokens := map[byte]string{
		'%': "%", 'd': home, 'h': s.hostName, 'k': key, 'n': s.host,
		'p': strconv.Itoa(s.port), 'r': s.user, 'u': me, 'i': strconv.Itoa(os.Getuid()),
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+1 == len(path) {
			b.WriteByte(path[i])
			continue
		}
		i++
		value, ok := tokens[path[i]]
		if !ok {
			return "", &sdk.Error{Kind: sdk.KindUnsupported, Message: fmt.Sprintf("the token %%%c in ssh_config's %q is not understood", path[i], path), Hint: "write the path out in ssh_config"}
		}
		b.WriteString(value)
	}
	return b.String(), nil
}
