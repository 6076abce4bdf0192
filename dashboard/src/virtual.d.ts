declare module 'virtual:sql-functions' {
  const functions: readonly { name: string; doc: string; example: string }[];
  export default functions;
}
