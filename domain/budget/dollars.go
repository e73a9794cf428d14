package budget

import (
	"errors"
	"fmt"
	"strings"
)

// Dollar is a dollar in micro-dollars.
const Dollar = 1_000_000

// Dollars returns an amount of micro-dollars as people write it, exactly: "$1.50", "$0.012345".
func Dollars(micros int64) string {
	sign, n := "", uint64(micros)
	if micros < 0 {
		sign, n = "-", -n
	}
	text := fmt.Sprintf("%06d", n%Dollar)
	for len(text) > 2 && text[len(text)-1] == '0' {
		text = text[:len(text)-1]
	}
	return fmt.Sprintf("%s$%d.%s", sign, n/Dollar, text)
}

// Exact returns an amount of micro-dollars as a number of dollars with six decimals: "1.500000".
func Exact(micros int64) string {
	sign, n := "", uint64(micros)
	if micros < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%06d", sign, n/Dollar, n%Dollar)
}

// errDollars says how an amount is written.
var errDollars = errors.New("not an amount of dollars: give a number with at most six decimals, such as 500 or 49.95")

// maxDollars is the largest amount that ParseDollars accepts: a billion dollars.
const maxDollars = 1_000_000_000

// ParseDollars returns an amount in micro-dollars, exactly. It accepts digits and one point, and no sign, exponent or spaces.
func ParseDollars(text string) (int64, error) {
	whole, part, point := strings.Cut(text, ".")
	if whole == "" || len(whole) > 10 || point && part == "" || len(part) > 6 || strings.Trim(whole+part, "0123456789") != "" {
		return 0, errDollars
	}
	var micros int64
	for _, digit := range whole + part + strings.Repeat("0", 6-len(part)) {
		micros = micros*10 + int64(digit-'0')
	}
	if micros > maxDollars*Dollar {
		return 0, fmt.Errorf("%s is more than a billion dollars", text)
	}
	return micros, nil
}
