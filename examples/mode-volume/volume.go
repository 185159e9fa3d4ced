package main

import (
	"path"
	"regexp"

	"github.com/transferpy/transferpy/sdk"
)

// volume is a volume of a host: its group and its name.
type volume struct{ group, name string }

var volumeName = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9_.+-]{0,63})/([A-Za-z0-9_][A-Za-z0-9_.+-]{0,63})$`)

// parseVolume reads GROUP/NAME.
func parseVolume(s sdk.Raw) (volume, bool) {
	m := volumeName.FindStringSubmatch(string(s))
	if m == nil {
		return volume{}, false
	}
	return volume{m[1], m[2]}, true
}

// storage knows where volumes lie and gives the commands that handle them.
// Each command is executed without a shell in between; where one needs a
// script, names are its arguments and never part of its text.
type storage struct{ root string }

func (s storage) groupDir(v volume) string { return path.Join(s.root, v.group) }
func (s storage) dir(v volume) string      { return path.Join(s.root, v.group, v.name) }

// snapshotDir is where the snapshot of one transfer lies. A name that begins
// with a dot is no volume.
func (s storage) snapshotDir(v volume, transferID string) string {
	return path.Join(s.root, v.group, ".snapshot-"+v.name+"-"+transferID)
}

// command makes a command of words.
func command(words ...string) sdk.Command { return sdk.Command{Argv: raws(words...)} }

func raws(words ...string) []sdk.Raw {
	out := make([]sdk.Raw, len(words))
	for i, w := range words {
		out[i] = sdk.Raw(w)
	}
	return out
}

// script makes a command of a script of sh and its arguments.
func script(text string, args ...string) sdk.Command {
	return command(append([]string{"sh", "-eu", "-c", text, "sh"}, args...)...)
}

// sizeOf prints the bytes of a volume; it exits 2 where there is none.
func (s storage) sizeOf(v volume) sdk.Command {
	return script(`[ -d "$1" ] || exit 2; du -s -B1 --apparent-size -- "$1" | cut -f 1`, s.dir(v))
}

// roomFor prints "missing" where the group is missing, "taken" where the
// volume exists, else the free bytes.
func (s storage) roomFor(v volume) sdk.Command {
	return script(`[ -d "$1" ] || { echo missing; exit; }
[ ! -e "$2" ] || { echo taken; exit; }
df -B1 --output=avail -- "$1" | tail -n 1`, s.groupDir(v), s.dir(v))
}

// snapshot makes the snapshot; where it exists, it stays as it is.
func (s storage) snapshot(v volume, transferID string) sdk.Command {
	return script(`[ ! -d "$2" ] || exit 0
rm -rf -- "$2.part"; cp -a -- "$1" "$2.part"; mv -T -- "$2.part" "$2"`, s.dir(v), s.snapshotDir(v, transferID))
}

// removeSnapshot removes what snapshot made, also half of it or nothing.
func (s storage) removeSnapshot(v volume, transferID string) sdk.Command {
	dir := s.snapshotDir(v, transferID)
	return command("rm", "-rf", "--", dir, dir+".part")
}

// send writes the snapshot to its standard output.
func (s storage) send(v volume, transferID string) *sdk.StageCommand {
	return &sdk.StageCommand{
		Argv:    raws("tar", "-C", s.snapshotDir(v, transferID), "-cf", "-", "."),
		Success: sdk.Success{EmptyStderr: true},
	}
}

// receive takes what send writes, into the staging directory: the same
// command on all targets.
func (s storage) receive() *sdk.StageCommand {
	return &sdk.StageCommand{
		Argv: raws("sh", "-eu", "-c", `mkdir -p -- "$1/volume"; exec tar -C "$1/volume" -xpf -`, "sh", "{staging}"),
	}
}

// commit makes the volume of what was received. It bears a second run, and
// never replaces a volume that holds anything: rename takes an empty
// directory only.
func (s storage) commit(v volume) sdk.Command {
	return script(`if [ -d "$1/volume" ]; then sync -f -- "$1/volume"; mkdir -p -- "$2"; mv -T -- "$1/volume" "$2"; sync -f -- "$2"; fi
[ -d "$2" ]`, "{staging}", s.dir(v))
}

// abort removes what was received and not committed.
func (s storage) abort() sdk.Command {
	return command("rm", "-rf", "--", "{staging}/volume")
}
