// Lines on stderr.

function write(level, text) {
  process.stderr.write(`${new Date().toISOString()} ${level} ${text}\n`);
}

export const log = {
  info: (text) => write('INFO', text),
  warn: (text) => write('WARNING', text),
  error: (text) => write('ERROR', text),
};
