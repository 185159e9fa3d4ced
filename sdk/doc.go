// Package sdk is the vocabulary of transferpy's plugins: the three interfaces
// (Executor, Mode, Firewall) and the values that cross them. It holds no
// implementation and imports the standard library only, so that a plugin
// drags nothing of the core along.
//
// A plugin author implements one of the interfaces and hands it to
// sdk/plugin.Serve. The core sees the same interface on its side of the wire;
// the contracts written on the methods hold on both sides.
package sdk

// ProtocolMajor is the major version of the wire between the core and its
// plugins. A plugin built for another major is refused by name before it is
// asked anything.
const ProtocolMajor = 1

// Version is the version of this SDK; it is reported by every plugin.
const Version = "1.0.0"
