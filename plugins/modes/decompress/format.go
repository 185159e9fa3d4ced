package decompress

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Formats that are unpacked.
const (
	formatTar  = "tar"
	formatGzip = "gzip"
	formatZstd = "zstd"
)

// archive is what a file's first bytes tell of it.
type archive struct {
	format  string
	bytes   int64 // that come out of it
	atLeast bool  // bytes is a lower bound
}

// others are formats that are known by their first bytes, and not unpacked.
var others = map[string]string{"\xfd7zXZ\x00": "xz", "BZh": "bzip2", "\x04\x22\x4d\x18": "lz4", "PK\x03\x04": "zip", "7z\xbc\xaf": "7z", "XBSTCK01": "xbstream"}

// look reads the output of headScript about a file of so many bytes.
func look(output string, size int64) (archive, error) {
	head, err := unhex(output)
	switch {
	case err != nil:
		return archive{}, errors.New("could not be looked at")
	case len(head) == 0:
		return archive{}, errors.New("is empty")
	case strings.HasPrefix(string(head), "\x1f\x8b"):
		// Its last bytes tell a size, but modulo 4 GiB, of the last of several
		// members alone, and anything at all where the file was cut.
		return archive{formatGzip, size, true}, nil
	case strings.HasPrefix(string(head), "\x28\xb5\x2f\xfd"):
		if n, ok := zstdContent(head); ok && n >= size {
			return archive{formatZstd, n, true}, nil // more frames may follow
		}
		return archive{formatZstd, size, true}, nil
	case isTar(head):
		return archive{formatTar, size, false}, nil
	}
	for magic, name := range others {
		if strings.HasPrefix(string(head), magic) {
			return archive{}, fmt.Errorf("is %s, which is not unpacked", name)
		}
	}
	return archive{}, errors.New("is no archive: neither gzip nor zstd nor tar begins like that")
}

// unhex reads what od -tx1 prints.
func unhex(text string) ([]byte, error) {
	return hex.DecodeString(strings.Join(strings.Fields(text), ""))
}

// zstdContent reads the content size of a frame's header, where it has one
// (RFC 8878, section 3.1.1.1).
func zstdContent(head []byte) (int64, bool) {
	if len(head) < 18 {
		return 0, false
	}
	descriptor := head[4]
	at := 5
	single := descriptor&0x20 != 0
	if !single {
		at++ // the window
	}
	at += []int{0, 1, 2, 4}[descriptor&3] // the dictionary's id
	switch descriptor >> 6 {
	case 0:
		return int64(head[at]), single
	case 1:
		return int64(binary.LittleEndian.Uint16(head[at:])) + 256, true
	case 2:
		return int64(binary.LittleEndian.Uint32(head[at:])), true
	}
	n := binary.LittleEndian.Uint64(head[at:])
	return int64(n), n < 1<<62
}

// isTar checks the checksum of a tar's first header, which old ones have too
// that have no magic.
func isTar(head []byte) bool {
	if len(head) < headLen {
		return false
	}
	sum := 0
	for i, c := range head[:headLen] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int(c)
	}
	var want int
	_, err := fmt.Sscanf(strings.Trim(string(head[148:156]), " \x00"), "%o", &want)
	return err == nil && want == sum
}
