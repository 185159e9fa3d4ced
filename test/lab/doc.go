// Package lab makes hosts on one machine: each is a set of network, mount,
// PID, UTS and IPC namespaces with a root file system, an /etc and a real
// sshd of its own, joined to the others by a bridge that stands in a network
// namespace too. The machine itself keeps its routes, interfaces, mounts and
// files as they are.
//
// A lab lives as long as its init processes, one for each host. They end when
// the program that made them ends, however it ends, unless Keep was called.
// When they end, the kernel takes processes, mounts and interfaces with them;
// what is left is one directory below StateDir, which the next lab sweeps.
//
// No goroutine ever changes its namespace: processes are started in one by
// clone(2), or by nsenter(1).
package lab
