export function App() {
  return <h1>CloudBot</h1>;
}
