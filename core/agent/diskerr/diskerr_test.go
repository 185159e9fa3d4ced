package diskerr

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

func TestNew(t *testing.T) {
	for _, c := range []struct {
		err  error
		kind error
	}{
		{syscall.EACCES, sdk.ErrPermission},
		{syscall.ENOSPC, sdk.ErrNoSpace},
		{syscall.EEXIST, sdk.ErrExists},
		{syscall.ELOOP, sdk.ErrChanged},
		{&os.PathError{Op: "open", Path: "/elsewhere", Err: syscall.ENOENT}, sdk.ErrNotFound},
		{fmt.Errorf("wrapped: %w", syscall.EDQUOT), sdk.ErrNoSpace},
		{errors.New("something"), sdk.ErrInternal},
	} {
		err := New("cannot create", "/a\n/b", c.err)
		if !errors.Is(err, c.kind) {
			t.Errorf("%v became %v", c.err, err)
		}
		if s := err.Error(); !strings.HasPrefix(s, `cannot create "/a\n/b": `) || strings.Contains(s, "elsewhere") {
			t.Error(s)
		}
	}
	if New("x", "y", nil) != nil {
		t.Error("an error out of nothing")
	}
	typed := &sdk.Error{Kind: sdk.KindChanged, Message: "mine"}
	if err := New("x", "y", fmt.Errorf("again: %w", typed)); !errors.Is(err, sdk.ErrChanged) || strings.Contains(err.Error(), "y") {
		t.Errorf("a typed error became %v", err)
	}
}
