package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Objects reads and writes whole objects of a bucket. Nothing is cached, and a 403 is an error.
type Objects struct{ Bucket *Bucket }

// Get returns an object's content, or fs.ErrNotExist.
func (o Objects) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	b := o.Bucket
	out, err := ask(ctx, b, b.client.GetObject, &s3.GetObjectInput{Bucket: &b.c.Bucket, Key: b.key(name)})
	if missing(err) {
		err = errors.Join(err, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s in bucket %s: %w", name, b.c.Bucket, err)
	}
	return out.Body, nil
}

// Put stores an object. It appears whole, or not at all.
func (o Objects) Put(ctx context.Context, name string, content []byte) error {
	b := o.Bucket
	put := func(ctx context.Context, in *s3.PutObjectInput, options ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
		in.Body = bytes.NewReader(content) // from the beginning each time
		return b.client.PutObject(ctx, in, options...)
	}
	_, err := ask(ctx, b, put, &s3.PutObjectInput{Bucket: &b.c.Bucket, Key: b.key(name), ContentLength: aws.Int64(int64(len(content)))})
	if err != nil {
		return fmt.Errorf("put %s into bucket %s: %w", name, b.c.Bucket, err)
	}
	return nil
}

// String names the bucket and the prefix.
func (o Objects) String() string { return o.Bucket.String() }
