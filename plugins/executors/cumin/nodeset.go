package cumin

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// unfold returns the names of a folded set as ClusterShell prints it:
// web-3.example.org,db[1-2,010-012/2].x[1-3]. A text without names is an
// error, and so is more than maxFound.
func unfold(set string) ([]string, error) {
	var names []string
	for set != "" {
		pattern, rest, err := cutPattern(set)
		if err != nil {
			return nil, err
		}
		set = rest
		more, err := unfoldPattern(pattern, maxFound-len(names))
		if err != nil {
			return nil, err
		}
		names = append(names, more...)
	}
	if len(names) == 0 {
		return nil, errors.New("it names no host")
	}
	return names, nil
}

// cutPattern cuts a set at its first comma outside brackets.
func cutPattern(set string) (pattern, rest string, err error) {
	depth := 0
	for i, c := range set {
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == ',' && depth == 0:
			if i == 0 || i == len(set)-1 {
				return "", "", fmt.Errorf("an empty name in %.80q", set)
			}
			return set[:i], set[i+1:], nil
		}
		if depth < 0 || depth > 1 {
			return "", "", fmt.Errorf("brackets in %.80q do not match", set)
		}
	}
	if depth != 0 {
		return "", "", fmt.Errorf("brackets in %.80q do not match", set)
	}
	return set, "", nil
}

// unfoldPattern returns the names of a pattern with any number of ranges, at
// most most of them.
func unfoldPattern(pattern string, most int) ([]string, error) {
	names := []string{""}
	for pattern != "" {
		before, after, ok := strings.Cut(pattern, "[")
		numbers := []string{""}
		if ok {
			var list string
			list, pattern, _ = strings.Cut(after, "]")
			var err error
			if numbers, err = ranges(list, most); err != nil {
				return nil, err
			}
		} else {
			pattern = ""
		}
		if len(names)*len(numbers) > most {
			return nil, fmt.Errorf("more than %d hosts", maxFound)
		}
		next := make([]string, 0, len(names)*len(numbers))
		for _, name := range names {
			for _, n := range numbers {
				next = append(next, name+before+n)
			}
		}
		names = next
	}
	return names, nil
}

// ranges returns the numbers of a list such as 1-2,010-012/2, padded as
// written.
func ranges(list string, most int) ([]string, error) {
	var numbers []string
	for _, item := range strings.Split(list, ",") {
		span, stepText, stepped := strings.Cut(item, "/")
		first, last, ok := strings.Cut(span, "-")
		if !ok {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 62)
		to, err2 := strconv.ParseUint(last, 10, 62)
		step, err3 := uint64(1), error(nil)
		if stepped {
			step, err3 = strconv.ParseUint(stepText, 10, 31)
		}
		if err := errors.Join(err1, err2, err3); err != nil || to < from || step == 0 {
			return nil, fmt.Errorf("%.80q is no range", item)
		}
		if (to-from)/step >= uint64(max(0, most-len(numbers))) {
			return nil, fmt.Errorf("more than %d hosts", maxFound)
		}
		width := 0
		if strings.HasPrefix(first, "0") {
			width = len(first)
		}
		for n := from; n <= to; n += step {
			numbers = append(numbers, fmt.Sprintf("%0*d", width, n))
		}
	}
	return numbers, nil
}
