export function Logo() {
  return (
    <svg viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" fill="#0b5f66" />
      <path d="M20 5v14a5.5 5.5 0 0 1-11 0v-2.5l3.2 3" fill="none" stroke="#fff" stroke-width="2.6" stroke-linecap="round" stroke-linejoin="round" />
      <circle cx="20" cy="6" r="2.4" fill="#fff" />
    </svg>
  );
}
