package control

import (
	"path"
	"slices"
	"strings"

	"github.com/transferpy/transferpy/sdk"
)

// Validate checks all of q: the ids, that it has exactly the part of its
// verb, and that every count, length and duration is within its bound. The
// error is a *sdk.Error of KindConfig.
func (q *Request) Validate() error {
	c := &check{}
	c.that(q.V == Version, "the request's version is %d, not %d", q.V, Version)
	c.id("the call", q.Call)
	oneShot := q.Verb == VerbProbe || q.Verb == VerbDo || q.Verb == VerbRoute
	if q.Transfer != "" || !oneShot {
		c.id("the transfer", q.Transfer)
	}
	c.duration("wait", q.Wait, maxWait)
	c.count("seen agents", len(q.Seen), MaxMembers)
	for agent := range q.Seen {
		c.id("a seen agent", agent)
	}
	c.that(q.Until == "" || phaseOrder[q.Until] > 0, "unknown phase %.80q", q.Until)
	c.that(!q.Observe || q.Verb == VerbStatus && q.Wait == 0, "who only observes asks for no more than the status")
	q.validateParts(c)
	return c.result()
}

// validateParts checks that the part of the verb, and no other, is there.
func (q *Request) validateParts(c *check) {
	parts := map[Verb]bool{
		VerbProbe: q.Probe != nil, VerbPrepare: q.Prepare != nil, VerbStart: q.Start != nil,
		VerbDo: q.Do != nil, VerbCommit: q.Commit != nil, VerbStop: q.Stop != nil,
		VerbRecover: q.Recover != nil, VerbManifest: q.Manifest != nil, VerbVerify: q.Verify != nil,
		VerbRoute: q.Route != nil,
	}
	has, takesPart := parts[q.Verb]
	c.that(takesPart || q.Verb == VerbStatus || q.Verb == VerbBegin, "unknown verb %.80q", q.Verb)
	c.that(has || !takesPart, "a %s request without its part", q.Verb)
	for verb, there := range parts {
		c.that(!there || verb == q.Verb, "a %s request with the part of another verb", q.Verb)
	}
	if c.err != nil {
		return
	}
	switch q.Verb {
	case VerbProbe:
		q.Probe.validate(c)
	case VerbPrepare:
		q.Prepare.validate(c)
		c.that(q.Prepare.Resume == "" || q.Prepare.Resume == q.Transfer, "transfer %.80q is to resume another one: %.80q", q.Transfer, q.Prepare.Resume)
	case VerbStart:
		q.Start.validate(c)
	case VerbDo:
		q.Do.validate(c)
	case VerbCommit:
		c.count("members", len(q.Commit.Members), MaxMembers)
		for _, name := range q.Commit.Members {
			c.id("a member", name)
		}
	case VerbManifest:
		q.Manifest.validate(c)
	case VerbVerify:
		q.Verify.validate(c)
	case VerbRoute:
		q.Route.validate(c)
	}
}

func (p *Probe) validate(c *check) {
	c.count("path questions", len(p.Paths), MaxQuestions)
	c.count("command questions", len(p.Commands), MaxQuestions)
	c.count("names to resolve", len(p.Resolve), MaxQuestions)
	c.that(p.Resume == "" || ValidID(p.Resume), "the transfer to be resumed is no valid id: %.80q", p.Resume)
	ids := map[string]bool{}
	for _, q := range p.Paths {
		c.text("a question's id", q.ID, maxName)
		c.that(q.ID != "" && !ids[q.ID], "two path questions with the id %.80q", q.ID)
		ids[q.ID] = true
		c.absolute("a question's path", q.Path)
	}
	clear(ids)
	for _, q := range p.Commands {
		c.text("a question's id", q.ID, maxName)
		c.that(q.ID != "" && !ids[q.ID], "two command questions with the id %.80q", q.ID)
		ids[q.ID] = true
		c.command(q.Command)
	}
	for _, name := range p.Resolve {
		c.that(name != "" && len(name) <= maxName && !strings.ContainsRune(name, 0), "no host name: %.80q", name)
	}
}

func (p *Prepare) validate(c *check) {
	c.port("the port", p.Port)
	c.that(p.Lease > 0, "an agent without a lease")
	c.that(p.Hold > 0, "an agent without a hold")
	c.duration("the lease", p.Lease, maxLease)
	c.that(p.Nice >= 0 && p.Nice <= 19, "no nice value: %d", p.Nice)
	c.count("hosts with a nice value", len(p.NiceOn), MaxMembers)
	for _, instance := range p.NiceOn {
		c.text("an instance", instance, maxName)
	}
	c.duration("the hold", p.Hold, maxHold)
	c.duration("the time between checkpoints", p.Checkpoint, maxHold)
	c.that(!p.Alone || p.Port == 0, "a port for an agent that nobody is to reach")
}

func (d *Do) validate(c *check) {
	c.count("parts", len(d.Parts), MaxMembers)
	for name, part := range d.Parts {
		c.id("a part", name)
		part.validate(c)
		c.count("further parts", len(part.Then), MaxCommands)
		for _, next := range part.Then {
			next.validate(c)
			c.that(len(next.Then) == 0, "a further part has further parts")
		}
	}
}

// validate checks a part without its Then.
func (p *DoPart) validate(c *check) {
	if p.Undo != nil {
		c.undo(*p.Undo)
	}
	c.commands(p.Commands)
}

func (s *Start) validate(c *check) {
	c.that(len(s.Members) >= 2, "a plan needs a source and a target")
	c.count("members", len(s.Members), MaxMembers)
	names := map[string]bool{}
	for i, m := range s.Members {
		m.validate(c, i == 0)
		c.that(!names[m.Name], "two members with the name %.80q", m.Name)
		names[m.Name] = true
	}
	stage(c, "read", s.Read)
	stage(c, "write", s.Write)
	s.Settings.validate(c)
}

func (m *Member) validate(c *check, source bool) {
	c.id("a member's name", m.Name)
	c.id("a member's agent", m.Agent)
	c.text("a member's host", m.Host, maxName)
	c.that(hexDigest.MatchString(m.Fingerprint), "member %.80q has no fingerprint", m.Name)
	c.that(len(m.SigningKey) == 32 || len(m.SigningKey) == 0 && !source, "member %.80q has no signing key", m.Name)
	c.that(m.Port > 0, "member %.80q has no port", m.Name)
	c.port("a member's port", m.Port)
	c.text("a member's data address", m.DataAddress, maxName)
	c.addresses(m.Addresses)
	c.text("a member's boot id", m.BootID, maxName)
	c.text("a member's network namespace", m.NetNS, maxName)
	c.that(source == (m.Destination == nil), "member %.80q: every member but the source, the first, has a destination", m.Name)
	if m.Destination != nil {
		destination(c, m.Destination)
	}
}

func destination(c *check, d *sdk.Destination) {
	c.absolute("a destination", d.Dir)
	c.count("names to publish", len(d.Publish), MaxQuestions)
	c.count("names to publish last", len(d.Last), MaxQuestions)
	for _, name := range slices.Concat(d.Publish, d.Last) {
		c.raw("a name to publish", name, maxPath)
		s := string(name)
		c.that(s != "" && s != "." && s != ".." && !strings.Contains(s, "/"), "no name to publish: %.200s", name.Display())
	}
	c.that(len(d.Publish) == 0 || len(d.Last) == 0, "a destination names all that it publishes, and what comes last")
	c.commands(d.Commit)
	c.commands(d.Abort)
	c.that(d.External || len(d.Commit)+len(d.Abort) == 0, "a staged destination has commands of an external one")
}

func stage(c *check, what string, s sdk.Stage) {
	c.that((s.Builtin == "") != (s.Command == nil), "the %s stage is neither a built-in nor a command", what)
	if s.Builtin != "" {
		switch s.Builtin {
		case sdk.BuiltinTree, sdk.BuiltinFile, sdk.BuiltinUnpackTar, sdk.BuiltinUnpackXbstream:
		default:
			c.that(false, "the %s stage is an unknown built-in: %.80q", what, s.Builtin)
		}
	}
	c.raw("a stage's path", s.Path, maxPath)
	if what == "read" && s.Builtin != "" {
		c.absolute("the read stage's path", s.Path)
	}
	if what == "write" && s.Path != "" {
		name := string(s.Path)
		c.that(!path.IsAbs(name) && path.Clean("/"+name) == "/"+name, "the write stage's path leads out of the staging directory: %.200s", s.Path.Display())
	}
	if s.Command != nil {
		stageCommand(c, s.Command)
	}
	if u := s.Unpack; u != nil {
		c.that(what == "write" && (s.Builtin == sdk.BuiltinUnpackTar || s.Builtin == sdk.BuiltinUnpackXbstream), "the %s stage says how to unpack and does not unpack", what)
		c.count("names that prove an archive", len(u.Proof), maxArgs)
		for _, name := range u.Proof {
			c.raw("a name that proves an archive", name, maxPath)
		}
		c.pattern("proof_line", u.ProofLine)
	}
}

func stageCommand(c *check, s *sdk.StageCommand) {
	c.command(sdk.Command{Argv: s.Argv})
	c.raw("a command's directory", s.Dir, maxPath)
	c.count("settings of the environment", len(s.Env), maxArgs)
	for _, setting := range s.Env {
		c.raw("a setting of the environment", setting, maxPath)
		c.that(strings.Index(string(setting), "=") > 0, "no setting of the environment: %.80s", setting.Display())
	}
	c.text("a command's user", s.User, maxName)
	c.count("exit codes", len(s.Success.ExitCodes), maxExtraCodes)
	c.pattern("last_stderr_line", s.Success.LastStderrLine)
	c.that(s.StopSignal == "" || signalName.MatchString(s.StopSignal), "no signal: %.80q", s.StopSignal)
	c.duration("stop_after", s.StopAfter, maxWait)
	c.pattern("progress", s.Progress)
	c.count("patterns to redact", len(s.Redact), maxPatterns)
	for _, pattern := range s.Redact {
		c.pattern("redact", pattern)
	}
}

func (s *Settings) validate(c *check) {
	switch s.Codec {
	case "none", "minlz", "zstd", "auto":
	default:
		c.that(false, "unknown codec %.80q", s.Codec)
	}
	leveled := s.Codec == "minlz" || s.Codec == "zstd"
	c.that(s.CodecLevel == 0 || leveled && s.CodecLevel > 0 && s.CodecLevel <= CodecLevels, "codec %.80q has no level %d", s.Codec, s.CodecLevel)
	switch s.Verify {
	case VerifyReadBack, VerifyReceived, VerifySigned:
	default:
		c.that(false, "unknown level of verification %.80q", s.Verify)
	}
	c.that(s.SlowTarget == "" || s.SlowTarget == SlowWait || s.SlowTarget == SlowDetach, "nothing is known of %.80q for slow targets", s.SlowTarget)
	c.that(s.LimitRate >= 0 && s.LimitRead >= 0, "a rate is negative")
	c.text("the owner", s.Owner, maxName)
	c.networks(s.DataNetworks)
	c.duration("the link timeout", s.LinkTimeout, maxLease)
	c.duration("open_for", s.OpenFor, maxLease)
	c.duration("retry_for", s.RetryFor, maxLease)
}
