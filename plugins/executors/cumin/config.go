package cumin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	maxConfig = 1 << 20 // bytes of cumin's configuration

	// ClusterShell's own defaults.
	defaultConnect = 10
	defaultFanout  = 64
)

// site is what cumin's configuration says of its ssh.
type site struct {
	Transport    string            `yaml:"transport"`
	Environment  map[string]string `yaml:"environment"`
	ClusterShell struct {
		SSHPath        words `yaml:"ssh_path"`
		SSHOptions     words `yaml:"ssh_options"`
		SSHUser        words `yaml:"ssh_user"`
		ConnectTimeout *int  `yaml:"connect_timeout"` // seconds
		Fanout         int   `yaml:"fanout"`
	} `yaml:"clustershell"`
}

// words is a text, or a list of them, which cumin joins with blanks.
type words string

// UnmarshalYAML implements yaml.Unmarshaler.
func (w *words) UnmarshalYAML(node *yaml.Node) error {
	var list []string
	if node.Kind != yaml.SequenceNode {
		var one string
		err := node.Decode(&one)
		*w = words(one)
		return err
	}
	err := node.Decode(&list)
	*w = words(strings.Join(list, " "))
	return err
}

// readSite reads cumin's configuration.
func readSite(path string) (site, error) {
	var s site
	info, err := os.Stat(path)
	if err != nil {
		return s, err
	}
	if info.Size() > maxConfig {
		return s, fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), maxConfig)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if err := yaml.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	_, err = s.ssh()
	return s, err
}

// connect is how long cumin's ssh tries to connect.
func (s *site) connect() time.Duration {
	if t := s.ClusterShell.ConnectTimeout; t != nil && *t > 0 {
		return time.Duration(*t) * time.Second
	}
	return defaultConnect * time.Second
}

// fanout is to how many hosts cumin speaks at once.
func (s *site) fanout() int {
	if s.ClusterShell.Fanout > 0 {
		return min(s.ClusterShell.Fanout, maxHosts)
	}
	return min(defaultFanout, maxHosts)
}

// ssh is the command by which cumin's transport, ClusterShell, reaches a
// host, up to the host.
func (s *site) ssh() ([]string, error) {
	c := s.ClusterShell
	path := string(c.SSHPath)
	if path == "" {
		path = "ssh"
	}
	argv, err := split(path)
	if err != nil {
		return nil, fmt.Errorf("ssh_path: %w", err)
	}
	options, err := split(string(c.SSHOptions))
	if err != nil {
		return nil, fmt.Errorf("ssh_options: %w", err)
	}
	if len(argv) == 0 {
		return nil, errors.New("ssh_path is empty")
	}
	// ssh takes what comes first: so the site's options rule the others.
	argv = append(append(argv, options...), "-oForwardAgent=no", "-oForwardX11=no")
	if c.SSHUser != "" {
		argv = append(argv, "-l", string(c.SSHUser))
	}
	if c.ConnectTimeout == nil || *c.ConnectTimeout > 0 {
		argv = append(argv, fmt.Sprintf("-oConnectTimeout=%d", s.connect()/time.Second))
	}
	return append(argv, "-oBatchMode=yes"), nil
}

// split makes words of a text as Python's shlex.split does, with a leading ~
// resolved in each.
func split(text string) ([]string, error) {
	var list []string
	var word strings.Builder
	begun, quote := false, rune(0)
	in := []rune(text)
	for i := 0; i < len(in); i++ {
		c := in[i]
		switch {
		case quote == 0 && strings.ContainsRune(" \t\r\n", c):
			if begun {
				list = append(list, home(word.String()))
				word.Reset()
				begun = false
			}
		case quote == 0 && (c == '\'' || c == '"'):
			quote, begun = c, true
		case c == quote:
			quote = 0
		case c == '\\' && quote != '\'':
			if i++; i == len(in) {
				return nil, errors.New("it ends with a backslash")
			}
			if quote == '"' && in[i] != '"' && in[i] != '\\' {
				word.WriteRune(c)
			}
			word.WriteRune(in[i])
			begun = true
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if begun {
		list = append(list, home(word.String()))
	}
	return list, nil
}

// home resolves a leading ~.
func home(word string) string {
	if word != "~" && !strings.HasPrefix(word, "~/") {
		return word
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		return word
	}
	return filepath.Join(dir, word[1:])
}
