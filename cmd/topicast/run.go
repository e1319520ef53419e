package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"topicast/bridge"
	"topicast/bridge/control"
	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/tap"
	"topicast/bridge/web"
	"topicast/configs"
	"topicast/mapping"
)

func newRunCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the bridge",
		Long: `Run the bridge until it is told to stop (SIGTERM, SIGINT).

A changed configuration file is taken over while it runs, by itself, when it has been
left alone for 3 s (10 s if it ends within a line) or another was put in its place,
or at once on SIGHUP: rules that are as before are not disturbed. A file with a fault changes
nothing, and the log says what is wrong with it. The rules, log.level and
control.listen are taken over; the other sections take effect at the next start,
and the log names the keys.

It keeps a copy of the last good configuration in the state folder, which is the
one that systemd gives (StateDirectory=), else spool.dir. If the file has a fault
at a start, or cannot be read, it starts with that copy, says so in the log and on
the status page, and takes the file over as soon as it is mended.

It exits at once, with status 1, only over a configuration that it cannot read
where there is no such copy, or a status page that it cannot open. A broker that is
away, an interface that comes late, a message that cannot be sent: those are waited
for, or counted, and said in the log and on the status page.

Without --config the file is $TOPICAST_CONFIG, ./topicast.yaml or
/etc/topicast/topicast.yaml, the first there is. Every key that is not in a list
has a flag here and a variable: broker.url is --broker-url and
TOPICAST_BROKER_URL. A flag wins over a variable, and a variable over the file. A
variable that begins with TOPICAST_ and is of no key is refused: topicast config
--env lists them.`,
		Example: `  topicast run --config gateway.yaml
  TOPICAST_BROKER_PASSWORD=secret topicast run --broker-username gateway
  topicast run --log-level debug`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			started, stop := deferGC()
			defer stop()
			// From here on SIGHUP does not end the process. Windows never sends it.
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			load := func(file string) (*configs.Config, error) { return loadHere(c.Context(), file, c.Flags()) }
			cfg, refused, err := loadAtStart(c.Context(), file, c.Flags())
			if err != nil {
				return err
			}
			level := new(slog.LevelVar)
			log := newLogger(c.ErrOrStderr(), cfg.Log, level)
			limitMemory(memlimit.FromCgroup, log)
			var looking sync.WaitGroup
			defer looking.Wait()
			return runBridge(c.Context(), &reloading{
				hangup: hangup, load: load, manager: systemd{log}, level: level, log: log, started: cfg, current: cfg, former: cfg.Former(c.Flags()),
				sayNetwork: func(of *configs.Config) {
					own := *of // which is released meanwhile
					looking.Go(func() { sayAfterStart(c.Context(), started, &own, of == cfg, log) })
				},
			}, refused)
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "the configuration `file`")
	configs.AddFlags(c.Flags())
	return c
}

// startTime is how long a start is given to be over: the list of rules read, and
// subscribed to.
const startTime = time.Second

// deferGC puts off the collecting of garbage until the start is over. Nearly all
// that a start allocates is there to stay, so that going through it half a dozen
// times on the way takes as long as the work itself. started is closed then; stop
// ends it early.
func deferGC() (started <-chan struct{}, stop func()) {
	percent := debug.SetGCPercent(400)
	var end func()
	restore := sync.OnceFunc(func() {
		debug.SetGCPercent(percent)
		end = boundGarbage()
	})
	over := make(chan struct{})
	timer := time.AfterFunc(startTime, func() {
		restore()
		close(over)
	})
	return over, func() {
		timer.Stop()
		restore()
		end()
		debug.SetGCPercent(percent)
	}
}

// sayAfterStart says what check says of the rules on this host, once the start is over:
// on a single core the look at interfaces and routes would put the first subscription
// off. Then it gives the memory back that reading a long list of rules has left, and
// the code that did it, which would else count as ours for as long as nothing else
// wants the room.
func sayAfterStart(ctx context.Context, started <-chan struct{}, cfg *configs.Config, first bool, log *slog.Logger) {
	select {
	case <-started:
	case <-ctx.Done():
	}
	sayNetwork(cfg, first, log)
	cfg.Release()
	if ctx.Err() == nil {
		debug.FreeOSMemory()
		returnCode()
	}
}

// runBridge runs what the configuration asks for, and those that come after it,
// until ctx ends. refused is why it starts with the last good configuration, or nil.
func runBridge(ctx context.Context, r *reloading, refused *refusedAtStart) error {
	cfg, log := r.started, r.log
	defer configs.EndCommands()
	log.Info("topicast starts", "version", buildVersion(), "config", cfg.File,
		"send_rules", len(cfg.Table.Configured().Send()), "receive_rules", len(cfg.Table.Configured().Receive()))
	sayFiles(cfg, log) // before the folder of the spool is made
	late := make(chan struct{})
	disk := openStores(ctx, cfg, log)
	closeStores := sync.OnceFunc(func() { disk.close(late, log) })
	defer closeStores()
	watched := new(tap.Tap)
	b, err := newBridge(cfg, r.former, disk, watched, log)
	if err != nil {
		return err
	}
	sayWarnings(cfg.Warnings, log)
	g, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, func() { time.AfterFunc(endLimit, func() { close(late) }) })
	if err := servePage(ctx, g, cfg.Web, b, watched, log); err != nil {
		return err
	}
	r.control = &controlSocket{options: control.Options{Status: web.Handler(b), Bridge: b, Tap: watched, Logger: log}}
	if err := r.control.open(cfg.Control); err != nil {
		return err
	}
	context.AfterFunc(ctx, r.control.close)
	defer r.control.close()
	g.Go(func() error {
		defer closeStores() // whatever else takes its time
		return b.Run(ctx)
	})
	r.bridge = b
	r.begin(ctx, g, refused)
	// It is alive until it has stopped, which takes some time.
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go r.manager.heartbeat(beating, b.Alive)
	cfg.Release() // the bridge has its own
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	select {
	case err = <-ended:
	case <-late:
		log.Error("not all of it has ended in time; the process ends all the same")
	}
	log.Info("topicast stopped")
	return err
}

// servePage has g serve the status page, if there is to be one, until ctx ends.
func servePage(ctx context.Context, g *errgroup.Group, c configs.Web, b *bridge.Bridge, watched *tap.Tap, log *slog.Logger) error {
	if c.Listen == "" {
		return nil
	}
	server, err := web.Listen(web.Options{Address: c.Listen, Hosts: c.Hosts, Logger: log, Tap: watched, Descriptors: multicast.KeptDescriptors()}, b)
	if err != nil {
		return err
	}
	log.Info("status page", "url", fmt.Sprintf("http://%s/", server.Addr()))
	g.Go(func() error { return server.Serve(ctx) })
	return nil
}

// begin tells the service manager that the bridge is at work, and when ctx has ended, and has g reload until then.
func (r *reloading) begin(ctx context.Context, g *errgroup.Group, refused *refusedAtStart) {
	if refused == nil {
		r.keep(r.started)
	} else {
		r.refusedAtStart(refused)
	}
	g.Go(func() error {
		r.run(ctx)
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		r.manager.stopping()
		return nil
	})
	// A broker that is away is no reason for systemd to wait, or to start us anew.
	if refused == nil {
		r.manager.ready(func() string { return sum(r.started.Table) })
	}
	r.sayNetwork(r.started)
}

// endLimit is when the process ends, after it is told to, whatever hangs. The rest of what
// the docs promise, bridge.EndLimit, is for the process itself.
const endLimit = bridge.EndLimit - 500*time.Millisecond

// loadHere loads a configuration, and tells it what else the interfaces of this host
// are called, for its warnings.
func loadHere(ctx context.Context, file string, flags *pflag.FlagSet) (*configs.Config, error) {
	cfg, err := loadUntil(ctx, file, flags)
	if err != nil {
		return nil, err
	}
	nameInterfaces(cfg)
	return cfg, nil
}

// loadUntil loads a configuration, unless ctx ends before: to open a pipe waits until
// somebody writes to it.
func loadUntil(ctx context.Context, file string, flags *pflag.FlagSet) (*configs.Config, error) {
	type result struct {
		cfg *configs.Config
		err error
	}
	loaded := make(chan result, 1)
	go func() {
		cfg, err := configs.Load(file, flags)
		loaded <- result{cfg, err}
	}()
	select {
	case r := <-loaded:
		return r.cfg, r.err
	case <-ctx.Done():
		return nil, errEnded
	}
}

// errEnded is an end that came before the configuration was read.
var errEnded = errors.New("told to stop before the configuration was read")

// nameInterfaces tells a configuration what else the interfaces of this host are
// called, and which there are, for rules that have several. What the names decide is where
// datagrams come back, and whether two receive rules hear the same.
func nameInterfaces(cfg *configs.Config) {
	if len(cfg.Table.Receive()) == 0 && !cfg.Table.Several() {
		return
	}
	if interfaces, err := multicast.Interfaces(); err == nil {
		cfg.On(bridge.HostInterfaces(interfaces))
	}
}

// newBridge makes the bridge that cfg asks for. former is the table of the process before, or nil.
func newBridge(cfg *configs.Config, former *mapping.Table, disk stores, watched *tap.Tap, log *slog.Logger) (*bridge.Bridge, error) {
	return bridge.New(bridge.Options{
		Version:     buildVersion(),
		Table:       cfg.Table,
		Former:      former,
		QueueSize:   int64(cfg.Queue.Size),
		Spool:       disk.spool,
		LastSent:    disk.lastSent,
		DeadLetters: disk.deadLetters,
		Tap:         watched,
		Loops:       loopguard.Options(cfg.Loops),
		Session:     sessionOptions(cfg.Broker, log),
		Logger:      log,
		Settings:    configs.Settings,
		Keys: func(rule any) (keys []bridge.Key) {
			for _, said := range configs.Effective(rule) {
				keys = append(keys, bridge.Key(said))
			}
			return keys
		},
	})
}

// sessionOptions is the section broker in the words of package session.
func sessionOptions(b configs.Broker, log *slog.Logger) session.Options {
	o := session.Options{
		URLs:        b.URLs,
		ReturnAfter: b.ReturnAfter,
		ClientID:    b.ClientID,
		Username:    b.Username,
		Password:    b.Password,
		Lifetime:    b.PasswordLifetime,
		TLS:         b.TLSConfig,
		Bind:        b.Bind,
		KeepAlive:   b.KeepAlive,
		Protocol:    protocols[b.Protocol],
		Clean:       b.Session == configs.SessionClean,
		MaxInFlight: b.MaxInFlight,
		MaxSubs:     b.MaxSubs,
		MaxFilters:  b.MaxFilters,
		MaxRate:     b.MaxRate,
		MaxPacket:   int(b.MaxPacket),
		GiveUpAfter: b.GiveUpAfter,
		Logger:      log,

		SessionExpiry: b.Expiry,
		TopicAliases:  b.Aliases,
	}
	if proxy := b.Proxy.Address(); proxy != nil {
		o.Proxy = &session.Proxy{URL: proxy, Username: b.Proxy.Username, Password: b.Proxy.Password}
	}
	if b.StatusTopic != "" {
		o.Status = &session.Status{Topic: b.StatusTopic}
	}
	return o
}

var protocols = map[configs.Protocol]session.Protocol{
	configs.ProtocolAuto: session.ProtocolAuto, configs.Protocol5: session.Protocol5, configs.Protocol311: session.Protocol311,
}

// newLogger logs to w as the section log asks, within the bound of limited. level can be
// changed later.
func newLogger(w io.Writer, l configs.Log, level *slog.LevelVar) *slog.Logger {
	level.Set(l.Level)
	o := &slog.HandlerOptions{Level: level}
	handler := func(w io.Writer) slog.Handler {
		if l.Format == configs.FormatJSON {
			return slog.NewJSONHandler(w, o)
		}
		return slog.NewTextHandler(w, o)
	}
	if j, ok := w.(journal); ok {
		return slog.New(newLimited(newJournalHandler(j, handler)))
	}
	return slog.New(newLimited(handler(w)))
}
