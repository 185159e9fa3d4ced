package config

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/transferpy/transferpy/sdk"
)

// Bounds of an operand's parts, in bytes: a DNS name with a user before it,
// and PATH_MAX.
const (
	maxHost = 512
	maxPath = 4095
)

// operand is SOURCE or TARGET of the command line, cut in two.
type operand struct {
	Host string
	Path sdk.Raw // any bytes but NUL; opaque unless the mode says that it is a path
}

// parseOperand cuts HOST:PATH. The first `:/` outside brackets and braces
// divides it, or, where there is none (a mode whose strings are no paths), the
// first `:` outside them. An IPv6 address stands in brackets, which are taken
// off: [2001:db8::1]:/path. A user may stand before the host: root@db1:/path.
func parseOperand(text string) (operand, error) {
	at := divide(text)
	if at < 0 {
		return operand{}, badOperand(text, "has no host and path divided by a colon", "write HOST:/path")
	}
	host, path := text[:at], text[at+1:]
	switch {
	case host == "":
		return operand{}, badOperand(text, "has no host before the colon", "write HOST:/path, and localhost:/path for this host")
	case path == "":
		return operand{}, badOperand(text, "has no path after the host", "write HOST:/path")
	case len(path) > maxPath:
		return operand{}, badOperand(text, "has a path of more than 4095 bytes", "")
	case strings.IndexByte(path, 0) >= 0:
		return operand{}, badOperand(text, "has a NUL byte in its path", "")
	}
	host, err := parseHost(host)
	if err != nil {
		err.Message = "operand " + sdk.Raw(clip(text)).Display() + ": " + err.Message
		return operand{}, err
	}
	return operand{Host: host, Path: sdk.Raw(path)}, nil
}

// divide returns the index of the colon between host and path, or -1.
func divide(text string) int {
	depth, plain := 0, -1
	for i := range len(text) {
		switch c := text[i]; {
		case c == '[' || c == '{':
			depth++
		case (c == ']' || c == '}') && depth > 0:
			depth--
		case c == ':' && depth == 0:
			if strings.HasPrefix(text[i+1:], "/") {
				return i
			}
			if plain < 0 {
				plain = i
			}
		}
	}
	return plain
}

// ParseHost checks a host as it is named to an executor and takes the
// brackets off an IPv6 address. Whether there is such a host is the
// executor's business.
func ParseHost(text string) (string, error) {
	host, err := parseHost(text)
	if err != nil {
		return "", err
	}
	return host, nil
}

func parseHost(text string) (string, *sdk.Error) {
	user, host := "", text
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		user, host = text[:at+1], text[at+1:]
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		if _, err := netip.ParseAddr(host[1 : len(host)-1]); err == nil {
			host = host[1 : len(host)-1]
		}
	}
	bad := func(r rune) bool { return r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r) }
	switch _, err := netip.ParseAddr(host); {
	case host == "" || user == "@":
		return "", configError("host %s is empty", show(text))
	case len(text) > maxHost:
		return "", configError("host %s is longer than %d bytes", show(clip(text)), maxHost)
	case strings.HasPrefix(text, "-") || strings.HasPrefix(host, "-"):
		return "", configError("host %s begins with a dash, which programs take for an option", show(text))
	case strings.ContainsFunc(text, bad):
		return "", configError("host %s holds a blank or a character that cannot be printed", show(text))
	case err != nil && divide(host) >= 0:
		e := configError("host %s holds a colon", show(text))
		e.Hint = "an IPv6 address is written in brackets: [2001:db8::1]:/path"
		return "", e
	}
	return user + host, nil
}

// badOperand makes the error for an operand.
func badOperand(text, what, hint string) *sdk.Error {
	e := configError("operand %s %s", sdk.Raw(clip(text)).Display(), what)
	e.Hint = hint
	return e
}
