package file

import (
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// A running MariaDB holds POSIX write locks on ibdata1 (InnoDB) and
// aria_log_control (Aria) of its data directory. A copy of it would be torn.

// liveScript looks for these files in the directory $1 and in those above it,
// and with $2 in those right below it: it prints their directory, device and
// inode, each followed by the lines of /proc/locks that name the inode. It
// reads only, and exits 0 whatever it finds.
const liveScript = `look() {
for f in ibdata1 aria_log_control; do
s=$(stat -c '%D %i' -- "$1/$f" 2>/dev/null) || continue
echo "file $f $s"
grep "POSIX.*WRITE.*:${s#* } " /proc/locks 2>/dev/null
done
}
d=$1
while :; do
look "$d"
case $d in */*/*) d=${d%/*} ;; *) break ;; esac
done
[ -z "$2" ] || for d in "$1"/*/; do look "${d%/}"; done
exit 0`

func liveCommand(dir sdk.Raw, below bool) sdk.Command {
	how := sdk.Raw("")
	if below {
		how = "below"
	}
	return sdk.Command{
		Argv:    []sdk.Raw{"sh", "-c", liveScript, "sh", dir, how},
		Timeout: 5 * time.Second,
	}
}

// liveSource refuses a source that is, holds, or lies in the data directory of
// a running server, unless the operator insists.
func (in *inspection) liveSource(f sdk.PathFacts) {
	in.live(in.Transfer.Source.Host, askLive, "the source", in.p.source, f)
}

// liveTarget does the same for a target that is or lies in one.
func (in *inspection) liveTarget(i int, f sdk.PathFacts) {
	if f.Exists && f.Type == sdk.FileDirectory {
		in.live(in.Transfer.Targets[i].Host, askLiveDir(i), "the target directory", in.p.dirs[i], f)
	}
}

func (in *inspection) live(host, id, what string, path sdk.Raw, f sdk.PathFacts) {
	shown := path.Display()
	r, ok := in.Answer(host, id)
	if !ok {
		in.Warn("%s:%s could not be checked for a running MariaDB", host, shown)
		return
	}
	file, pid := lockHolder(string(r.Stdout), f.FileSystem)
	switch {
	case file == "":
	case in.Transfer.Options["force_live"] == "true":
		in.Warn("%s:%s belongs to the data directory of a running MariaDB (process %s holds %s): the copy may be torn", host, shown, pid, file)
	default:
		in.Refuse(sdk.KindConfig, host, "stop the server first, or copy it by --type xtrabackup; --force-live insists, and the copy may then be torn",
			"%s %s belongs to the data directory of a running MariaDB: process %s holds a lock on %s", what, shown, pid, file)
	}
}

// lockHolder finds a lock in the output of liveScript: the file's name and
// the holder's process id, 0 if it is in another namespace.
func lockHolder(output, fileSystem string) (file, pid string) {
	var name, device, inode string
	for line := range strings.Lines(output) {
		words := strings.Fields(line)
		if len(words) == 4 && words[0] == "file" {
			name, device, inode = words[1], words[2], words[3]
			continue
		}
		// 3: POSIX  ADVISORY  WRITE 652 00:2f:8 0 EOF; one that waits has ->
		// after the number.
		if name == "" || len(words) != 8 || words[1] != "POSIX" || words[3] != "WRITE" {
			continue
		}
		place := strings.Split(words[5], ":")
		if len(place) == 3 && place[2] == inode && sameDevice(place[0], place[1], device, fileSystem) {
			return name, words[4]
		}
	}
	return "", ""
}

// sameDevice compares the kernel's device of a lock with that of stat, in
// hexadecimal. On file systems whose files show a device of their own the two
// differ for the same file, and the inode has to do.
func sameDevice(major, minor, device, fileSystem string) bool {
	if fileSystem == "btrfs" || strings.HasPrefix(fileSystem, "overlay") {
		return true
	}
	ma, err1 := strconv.ParseUint(major, 16, 32)
	mi, err2 := strconv.ParseUint(minor, 16, 32)
	dev, err3 := strconv.ParseUint(device, 16, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return false
	}
	// As glibc's makedev packs them.
	return ma == dev>>8&0xfff|dev>>32&^0xfff && mi == dev&0xff|dev>>12&0xffffff00
}
