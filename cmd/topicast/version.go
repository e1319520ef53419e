package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker in a release:
// go build -ldflags "-X main.version=v1.2.3".
var version string

// build says what this program was built from and for.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source, where it was built from a checkout
	Modified bool   `json:"modified,omitempty"` // the checkout had changes of its own
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisBuild() build {
	b := build{
		Version:  version,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		b.Version = cmp.Or(b.Version, "unknown")
		return b
	}
	// The version of go install topicast@v1.2.3, or one made of the revision.
	b.Version = cmp.Or(b.Version, info.Main.Version, "(devel)")
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func buildVersion() string { return thisBuild().Version }

func newVersionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version and what it was built from",
		Long:  "Print the version, the revision of the source, the Go version and the platform.",
		Example: `  topicast version
  topicast version --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			return runVersion(asJSON, thisBuild(), c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return c
}

func runVersion(asJSON bool, b build, out io.Writer) error {
	if asJSON {
		return json.NewEncoder(out).Encode(b)
	}
	fmt.Fprintf(out, "topicast %s\n", b.Version)
	if b.Revision != "" {
		fmt.Fprintf(out, "revision %s", b.Revision)
		if b.Modified {
			fmt.Fprint(out, ", with changes")
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%s for %s\n", b.Go, b.Platform)
	return nil
}
