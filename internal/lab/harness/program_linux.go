package harness

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

// A Program is a command of the lab.
type Program struct {
	Name    string
	About   string   // the first line of its usage
	Heading string   // of the choices there
	Choices []Choice // what its flag --only chooses from

	topicast string // the flag of this name
}

// A Choice is a scenario, or whatever else can be chosen.
type Choice struct{ Name, About string }

// Options are what the flags say, and what is done about it.
type Options interface {
	// Flags defines the flags, beside --topicast.
	Flags(*flag.FlagSet)
	// Check is called when they have been read.
	Check() error
	// Build makes in dir what Run needs beside topicast. It is called outside the
	// namespaces, where the network is: the module cache may have to be filled.
	Build(ctx context.Context, dir string) error
	// Run is called in new namespaces with the same dir.
	Run(ctx context.Context, dir string) error
}

// Main does what the flags say and exits.
func (p *Program) Main(o Options) {
	netlab.Join()
	switch err := p.Parse(o, os.Args[1:], os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		p.Say("error: %v", err)
		os.Exit(2)
	}
	os.Exit(p.execute(o))
}

// Parse reads the flags.
func (p *Program) Parse(o Options, args []string, usage io.Writer) error {
	f := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	f.SetOutput(usage)
	o.Flags(f)
	f.StringVar(&p.topicast, "topicast", "", "the `program` to run; empty: built from this module")
	f.Usage = func() {
		fmt.Fprintf(usage, "%s\n\nUsage:\n  %s [flags]\n\nFlags:\n", p.About, p.Name)
		f.PrintDefaults()
		fmt.Fprintf(usage, "\n%s:\n", p.Heading)
		for _, c := range p.Choices {
			fmt.Fprintf(usage, "  %-22s %s\n", c.Name, c.About)
		}
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return o.Check()
}

// dirVar passes the folder with what is built on to the copy of this process that
// netlab starts in namespaces of its own. topicast refuses to start beside a variable
// that begins with TOPICAST_ and is none of its own.
const dirVar = "HARNESS_DIR"

func (p *Program) execute(o Options) (status int) {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if os.Getenv(dirVar) == "" {
		dir, err := os.MkdirTemp("", p.Name+"-")
		if err != nil {
			return p.status(err)
		}
		defer os.RemoveAll(dir)
		if err := p.BuildTopicast(ctx, dir); err != nil {
			return p.status(err)
		}
		if err := o.Build(ctx, dir); err != nil {
			return p.status(err)
		}
		os.Setenv(dirVar, dir)
	}
	return netlab.Enter(inside(func() int { return p.status(o.Run(ctx, os.Getenv(dirVar))) })).Run()
}

// inside is what netlab runs in the namespaces.
type inside func() int

func (f inside) Run() int { return f() }

func (p *Program) status(err error) int {
	if err != nil {
		p.Say("error: %v", err)
		return 1
	}
	return 0
}

// Say prints a line to standard error.
func (p *Program) Say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, p.Name+": "+format+"\n", args...)
}

// BuildTopicast makes [Topicast] of dir: the program of the flag, or one that is built
// as it is shipped.
func (p *Program) BuildTopicast(ctx context.Context, dir string) error {
	if p.topicast != "" {
		file, err := exec.LookPath(p.topicast)
		if err != nil {
			return err
		}
		if file, err = filepath.Abs(file); err != nil {
			return err
		}
		return os.Symlink(file, Topicast(dir))
	}
	p.Say("building topicast")
	c := exec.CommandContext(ctx, "go", "build", "-o", Topicast(dir), "topicast/cmd/topicast")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build topicast, from a directory of its module: %w\n%s", err, out)
	}
	return nil
}

// Topicast is the program to run.
func Topicast(dir string) string { return filepath.Join(dir, "topicast") }
