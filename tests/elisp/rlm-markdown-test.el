;;; rlm-markdown-test.el --- Tests of Markdown as Org  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.


;;; Commentary:

;; fixtures/markdown/NAME.md is what a model may write, and NAME.org what
;; becomes of it.  Org itself says what that means: its parser finds the
;; emphasis, code and links that were meant, and no heading.
;; RLM_TEST_RENEW=1 in the environment writes the expected files anew; look
;; at what has changed then.

;;; Code:

(require 'rlm-test-lib)
(require 'rlm-markdown)
(require 'org-element)

(defconst rlm-markdown-test-directory (expand-file-name "fixtures/markdown/" rlm-test-here)
  "Directory of the fixtures.")

(defun rlm-markdown-test-names (&optional regexp)
  "Return the names of the fixtures, or of those that match REGEXP."
  (seq-filter (lambda (name) (string-match-p (or regexp "") name))
              (mapcar #'file-name-sans-extension
                      (directory-files rlm-markdown-test-directory nil "\\.md\\'"))))

(defun rlm-markdown-test-text (name)
  "Return the text of the fixture NAME, as it is."
  (with-temp-buffer
    (let ((coding-system-for-read 'utf-8-unix))
      (insert-file-contents (expand-file-name name rlm-markdown-test-directory)))
    (buffer-string)))

(defun rlm-markdown-test-org (name)
  "Return what becomes of the fixture NAME."
  (rlm-markdown-to-org (rlm-markdown-test-text (concat name ".md"))))

(defmacro rlm-markdown-test-each (names &rest body)
  "Evaluate BODY with `name' and `tree', for each of NAMES and its Org text."
  (declare (indent 1) (debug t))
  `(dolist (name ,names)
     (with-temp-buffer
       (let ((org-inhibit-startup t)) (delay-mode-hooks (org-mode)))
       (insert (rlm-markdown-test-org name))
       (let ((tree (org-element-parse-buffer)))
         (ert-info ((concat name ":\n" (buffer-string)))
           ,@body)))))

(ert-deftest rlm-markdown-test-gives-the-expected-org ()
  (should (> (length (rlm-markdown-test-names)) 60))
  (dolist (name (rlm-markdown-test-names))
    (let ((text (rlm-markdown-test-org name))
          (file (expand-file-name (concat name ".org") rlm-markdown-test-directory)))
      (when (getenv "RLM_TEST_RENEW")
        (let ((coding-system-for-write 'utf-8-unix))
          (write-region text nil file nil 'silent)))
      (ert-info (name)
        (should (equal text (rlm-markdown-test-text (concat name ".org"))))))))

(defun rlm-markdown-test-in-pieces (text size)
  "Return what becomes of TEXT, fed in pieces of SIZE characters."
  (let ((converter (rlm-markdown-make)) (start 0) steps)
    (while (< start (length text))
      (let ((end (min (length text) (+ start size))))
        (setq steps (append steps (rlm-markdown-feed converter (substring text start end)))
              start end)))
    (rlm-markdown--written (append steps (rlm-markdown-finish converter)))))

(ert-deftest rlm-markdown-test-does-not-depend-on-the-cut ()
  (dolist (name (rlm-markdown-test-names))
    (let ((text (rlm-markdown-test-text (concat name ".md")))
          (whole (rlm-markdown-test-org name)))
      (ert-info (name)
        (dolist (size '(1 2 3 7 40))
          (should (equal whole (rlm-markdown-test-in-pieces text size))))))))

(ert-deftest rlm-markdown-test-does-not-depend-on-the-cut-where-it-is-long ()
  (let* ((rlm-markdown--most 60)
         (text (mapconcat (lambda (name) (rlm-markdown-test-text (concat name ".md")))
                          (seq-remove (lambda (name) (string-match-p "reference" name))
                                      (rlm-markdown-test-names))
                          "\n\n"))
         (whole (rlm-markdown-to-org text)))
    (dolist (size '(1 13 200 1000))
      (should (equal whole (rlm-markdown-test-in-pieces text size))))))

(ert-deftest rlm-markdown-test-adds-no-heading-and-runs-nothing ()
  (rlm-markdown-test-each (rlm-markdown-test-names)
    (should-not (org-element-map tree
                    '(headline inlinetask keyword babel-call drawer property-drawer node-property
                      diary-sexp comment comment-block dynamic-block fixed-width clock planning
                      inline-src-block inline-babel-call timestamp macro target radio-target
                      citation export-snippet statistics-cookie)
                  #'org-element-type))
    (should-not (org-element-map tree 'link
                  (lambda (link)
                    (not (member (org-element-property :type link)
                                 '("http" "https" "file" "mailto"))))))))

(ert-deftest rlm-markdown-test-text-stays-text ()
  (rlm-markdown-test-each (rlm-markdown-test-names "\\`literal")
    (should (equal (cdr (assoc name '(("literal-line-starts" bold)))) ; "# comment" is a heading
                   (org-element-map tree '(bold italic underline strike-through verbatim code link
                                           footnote-reference target
                                           src-block example-block table item)
                     #'org-element-type)))))

;;;; What Org sees is what was meant

(defun rlm-markdown-test-fences (text)
  "Return the code in the fences of the Markdown TEXT that are not indented."
  (let (blocks code sign)
    (dolist (line (split-string text "\n"))
      (cond ((and sign (string-match-p (concat "\\`" sign "+[ \t]*\\'") line))
             (push (nreverse code) blocks)
             (setq sign nil code nil))
            (sign (push line code))
            ((string-match "\\`\\(```+\\|~~~+\\)" line)
             (setq sign (match-string 1 line)))))
    (when sign (push (nreverse (cdr code)) blocks))
    (mapcar (lambda (lines) (mapconcat (lambda (line) (concat line "\n")) lines ""))
            (nreverse blocks))))

(ert-deftest rlm-markdown-test-code-stays-as-it-is ()
  (rlm-markdown-test-each '("code-after-text" "code-empty" "code-fence" "code-longer-fence"
                            "code-no-language" "code-tilde" "code-unclosed" "link-reference-late")
    (should (equal (rlm-markdown-test-fences (rlm-markdown-test-text (concat name ".md")))
                   (org-element-map tree '(src-block example-block)
                     (lambda (block) (org-element-property :value block)))))))

(ert-deftest rlm-markdown-test-indented-code-stays-as-it-is ()
  (rlm-markdown-test-each '("list-code")
    (should (equal '("pip install x\n"
                     "def f():\n    return 1\n\n\n# two blank lines above\n")
                   (org-element-map tree 'src-block
                     (lambda (block)
                       (org-remove-indentation (org-element-property :value block))))))))

(defun rlm-markdown-test-meant (nodes kind)
  "Return the texts that NODES mark as KIND."
  (mapcan (lambda (node)
            (pcase node
              ((pred stringp) nil)
              (`(,(pred (eq kind)) . ,(and text (pred stringp))) (list text))
              (`(,(pred (eq kind)) . ,children)
               (cons (string-replace "\n" " " (rlm-markdown-plain children))
                     (rlm-markdown-test-meant children kind)))
              (`(,(or 'strong 'emph 'strike) . ,children)
               (rlm-markdown-test-meant children kind))
              (`(link ,_ . ,children) (rlm-markdown-test-meant children kind))))
          nodes))

(defun rlm-markdown-test-seen (tree types)
  "Return the texts that Org sees in TREE as one of TYPES."
  (org-element-map tree types
    (lambda (object)
      (or (org-element-property :value object)
          (substring-no-properties
           (replace-regexp-in-string
            "[~=/*+]\\([^~=/*+]+\\)[~=/*+]" "\\1"
            (buffer-substring (org-element-property :contents-begin object)
                              (org-element-property :contents-end object))))))))

(ert-deftest rlm-markdown-test-org-sees-what-was-meant ()
  "Every emphasis and every piece of code is one for Org, and nothing else is."
  (rlm-markdown-test-each '("emphasis" "emphasis-borders" "emphasis-cjk" "emphasis-lines"
                            "inline-code" "inline-code-marks" "literal-names")
    (let ((nodes (mapcan (lambda (block) (rlm-markdown-inline (cdr block)))
                         (rlm-markdown-blocks
                          (split-string (rlm-markdown-test-text (concat name ".md")) "\n")))))
      (pcase-dolist (`(,kind . ,types) '((strong bold) (emph italic) (strike strike-through)
                                         (code code verbatim)))
        (should (equal (seq-remove (lambda (text) (and (eq kind 'strong) (equal name "emphasis")
                                                       (equal text "l")))
                                   (mapcar #'string-trim (rlm-markdown-test-meant nodes kind)))
                       (seq-remove (lambda (text) (and (eq kind 'strong) (equal name "emphasis")
                                                       (equal text "l")))
                                   (rlm-markdown-test-seen tree types))))))))

(ert-deftest rlm-markdown-test-code-that-ends-any-mark-is-whole-when-joined ()
  (with-temp-buffer
    (let ((org-inhibit-startup t)) (delay-mode-hooks (org-mode)))
    (insert (rlm-markdown-to-org "See `a~ = b= c~, d` there.\n"))
    (should (equal "a~ = b= c~, d"
                   (string-trim
                    (mapconcat (lambda (object)
                                 (concat (org-element-property :value object)
                                         (make-string (org-element-property :post-blank object)
                                                      ?\s)))
                               (org-element-map (org-element-parse-buffer) '(code verbatim)
                                 #'identity)
                               ""))))))

(ert-deftest rlm-markdown-test-lists-nest ()
  (rlm-markdown-test-each '("list-nested")
    (should (equal '(0 2 4 6 2 0)
                   (org-element-map tree 'item
                     (lambda (item)
                       (goto-char (org-element-property :begin item))
                       (current-indentation))))))
  (rlm-markdown-test-each '("list-two-kinds")
    (should (= 4 (length (org-element-map tree 'plain-list #'identity)))))
  (rlm-markdown-test-each '("list-ordered-start")
    (should (equal '((7) (nil) (3) (nil)) (org-element-map tree 'item
                                    (lambda (item)
                                      (list (org-element-property :counter item))))))))

(ert-deftest rlm-markdown-test-tables-are-tables ()
  (rlm-markdown-test-each '("table-bars-in-code")
    (should (equal '((2) (nil) (2) (2) (2))
                   (org-element-map tree 'table-row
                     (lambda (row) (list (let ((cells (length (org-element-contents row))))
                                           (and (> cells 0) cells))))))))
  (rlm-markdown-test-each '("table-align")
    (should tree)
    (org-table-map-tables #'org-table-align t)
    (should (equal (rlm-markdown-test-org "table-align") (buffer-string)))))

;;;; Much text

(ert-deftest rlm-markdown-test-long-blocks-are-converted-in-parts ()
  (let* ((rows (mapconcat (lambda (n) (format "| row %d | *b* |\n" n)) (number-sequence 1 900) ""))
         (items (mapconcat (lambda (n) (format "- item %d\n  - inner\n" n))
                           (number-sequence 1 900) ""))
         (text (concat "| a | b |\n|---|---|\n" rows "\n" items)))
    (with-temp-buffer
      (let ((org-inhibit-startup t)) (delay-mode-hooks (org-mode)))
      (insert (rlm-markdown-to-org text))
      (let ((tree (org-element-parse-buffer)))
        (should (= 1 (length (org-element-map tree 'table #'identity))))
        (should (= 902 (length (org-element-map tree 'table-row #'identity))))
        (should (= 1800 (length (org-element-map tree 'item #'identity))))
        (should (= 901 (length (org-element-map tree 'plain-list #'identity))))))))

(ert-deftest rlm-markdown-test-a-line-without-an-end ()
  "Each step has a bounded part of it to do, and nothing is lost."
  (let ((converter (rlm-markdown-make)) (shown 0))
    (dotimes (_ 40)
      (pcase-dolist (`(text . ,lines) (rlm-markdown-feed converter (make-string 16000 ?x)))
        (dolist (line lines)
          (should (<= (length line) rlm-markdown--most))
          (setq shown (+ shown (length line)))))
      (should (<= (length (rlm-markdown-rest converter)) (+ 2 (* 2 rlm-markdown--most)))))
    (pcase-dolist (`(text . ,lines) (rlm-markdown-finish converter))
      (setq shown (+ shown (apply #'+ (mapcar #'length lines)))))
    (should (= shown (* 40 16000)))))

(provide 'rlm-markdown-test)
;;; rlm-markdown-test.el ends here
