// Command transferpy-mode-volume is a mode that copies volumes. Its sources
// and targets are names like vg0/mail and no paths; it reads from a snapshot
// that it makes in Begin and that is removed as soon as nothing is read any
// more; and its destination is external: the volume appears by the mode's own
// command, when all is verified.
//
// Plain directories play the volumes: vg0/mail is ROOT/vg0/mail, and a
// snapshot is a copy. With lvcreate and lvremove, or zfs snapshot, send and
// receive in the commands of volume.go it would be the real thing.
package main

import "github.com/transferpy/transferpy/sdk/plugin"

func main() { plugin.Serve(newMode()) }
