package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"topicast/bridge"
	"topicast/bridge/session"
	"topicast/bridge/web"
	"topicast/configs"
)

func newRunCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the bridge",
		Long: `Run the bridge until it is told to stop (SIGTERM, SIGINT).

A changed configuration file is taken over while it runs, by itself or at once on
SIGHUP: rules that are as before are not disturbed. A file with a fault changes
nothing, and the log says what is wrong with it. The rules and log.level are taken
over; the other sections take effect at the next start, and the log names the keys.

It exits at once, with status 1, only over a configuration that it cannot read or
a status page that it cannot open. A broker that is away, an interface that comes
late, a message that cannot be sent: those are waited for, or counted, and said
in the log and on the status page.

Without --config the file is $TOPICAST_CONFIG, ./topicast.yaml or
/etc/topicast/topicast.yaml, the first there is. Every key that is not in a list
has a flag here and a variable: broker.url is --broker-url and
TOPICAST_BROKER_URL. A flag wins over a variable, and a variable over the file.`,
		Example: `  topicast run --config gateway.yaml
  TOPICAST_BROKER_PASSWORD=secret topicast run --broker-username gateway
  topicast run --log-level debug`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			defer hurry()()
			// From here on SIGHUP does not end the process. Windows never sends it.
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			load := func(file string) (*configs.Config, error) { return configs.Load(file, c.Flags()) }
			cfg, err := load(file)
			if err != nil {
				return err
			}
			level := new(slog.LevelVar)
			log := newLogger(c.ErrOrStderr(), cfg.Log, level)
			return runBridge(c.Context(), &reloading{
				hangup: hangup, load: load, manager: systemd{log}, level: level, log: log, started: cfg, current: cfg,
			})
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "the configuration `file`")
	configs.AddFlags(c.Flags())
	return c
}

// startTime is how long a start is given to be over: the list of rules read, and
// subscribed to.
const startTime = time.Second

// hurry puts off the collecting of garbage until the start is over. Nearly all
// that a start allocates is there to stay, so that going through it half a dozen
// times on the way takes as long as the work itself. Then it collects, and gives
// the memory back that reading a long list of rules has left, and the code that
// did it, which would else count as ours for as long as nothing else wants the
// room. stop ends it early.
func hurry() (stop func()) {
	percent := debug.SetGCPercent(400)
	calm := sync.OnceFunc(func() { debug.SetGCPercent(percent) })
	over := time.AfterFunc(startTime, func() {
		calm()
		debug.FreeOSMemory()
		returnCode()
	})
	return func() {
		over.Stop()
		calm()
	}
}

// runBridge runs what the configuration asks for, and those that come after it,
// until ctx ends.
func runBridge(ctx context.Context, r *reloading) error {
	cfg, log := r.started, r.log
	log.Info("topicast starts", "version", buildVersion(), "config", cfg.File,
		"send_rules", len(cfg.Table.Send()), "receive_rules", len(cfg.Table.Receive()))
	kept := openSpool(cfg.Spool, log)
	defer closeSpool(kept, log)
	b, err := newBridge(cfg, kept, log)
	if err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		log.Warn(w.Error())
	}
	g, ctx := errgroup.WithContext(ctx)
	if cfg.Web.Listen != "" {
		server, err := web.Listen(cfg.Web.Listen, b)
		if err != nil {
			return err
		}
		log.Info("status page", "url", fmt.Sprintf("http://%s/", server.Addr()))
		g.Go(func() error { return server.Serve(ctx) })
	}
	g.Go(func() error { return b.Run(ctx) })
	r.bridge = b
	g.Go(func() error {
		r.run(ctx)
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		r.manager.stopping()
		return nil
	})
	// It is alive until it has stopped, which takes some time.
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go r.manager.beat(beating, b.Alive)
	// A broker that is away is no reason for systemd to wait, or to start us anew.
	r.manager.ready(func() string { return sum(cfg.Table) })
	cfg.Release() // the bridge has its own
	err = g.Wait()
	log.Info("topicast stopped")
	return err
}

// newBridge makes the bridge that cfg asks for, with a spool.
func newBridge(cfg *configs.Config, kept bridge.Spool, log *slog.Logger) (*bridge.Bridge, error) {
	return bridge.New(bridge.Options{
		Version:   buildVersion(),
		Table:     cfg.Table,
		QueueSize: int64(cfg.Queue.Size),
		Spool:     kept,
		Loops:     bridge.Loops(cfg.Loops),
		Session:   sessionOptions(cfg.Broker, log),
		Logger:    log,
	})
}

// sessionOptions is the section broker in the words of package session.
func sessionOptions(b configs.Broker, log *slog.Logger) session.Options {
	o := session.Options{
		URLs:        b.URLs,
		ClientID:    b.ClientID,
		Username:    b.Username,
		Password:    b.Password,
		TLS:         b.TLSConfig,
		KeepAlive:   b.KeepAlive,
		Clean:       b.Session == configs.SessionClean,
		MaxInFlight: b.MaxInFlight,
		Logger:      log,
	}
	if b.StatusTopic != "" {
		o.Status = &session.Status{Topic: b.StatusTopic}
	}
	return o
}

// newLogger logs to w as the section log asks. level can be changed later.
func newLogger(w io.Writer, l configs.Log, level *slog.LevelVar) *slog.Logger {
	level.Set(l.Level)
	o := &slog.HandlerOptions{Level: level}
	if l.Format == configs.FormatJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
