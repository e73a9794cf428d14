package activity_test

import (
	"fmt"
	"os"
	"time"
)

func (s *sim) trace(format string, args ...any) {
	if os.Getenv("IDLE_TRACE") != "" {
		fmt.Printf("%s %s\n", time.Now().UTC().Format("15:04:05.000"), fmt.Sprintf(format, args...))
	}
}
