-- What a report's trace is called (W3C Trace Context), so that whoever takes it up goes on with it.
alter table reports add column traceparent text;
