// Numbers as people say them.

export function duration(seconds) {
  if (seconds < 1.5) return "about a second";
  if (seconds < 90) return `about ${Math.round(seconds)} s`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min`;
  return `about ${(seconds / 3600).toFixed(1)} h`;
}

export const size = (width, height) => `${width} × ${height}`;

// Confidence is no probability, so it is not told in percent.
export const confidence = (value) => Number(value).toFixed(2);

export const percent = (share) => `${Math.round(share * 100)} %`;

export const count = (number, one, many = one + "s") => `${number} ${number === 1 ? one : many}`;

export function sentence(text) {
  // A capital, unless it begins with a file's name.
  return /^\S+\.\w+:/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1);
}
